"""MkDocs hook: the gallery of papers, made from the code, so that it cannot fall behind it."""

from __future__ import annotations

from mkdocs.structure.files import File, Files


def on_files(files: Files, config) -> Files:
    """Add `gallery.md`."""
    files.append(File.generated(config, "gallery.md", content=page()))
    return files


def page() -> str:
    from nissl.papers import papers

    lines = [
        "# Papers",
        "",
        "Each claim is measured by `nissl reproduce SLUG`, against a control, on your own machine.",
        "",
    ]
    for paper in papers().values():
        lines += [
            f"## {paper.title}",
            "",
            f"`nissl reproduce {paper.slug}` · room `{paper.room}` · [{paper.source}]({paper.source})",
            "",
        ]
        lines += ["| claim | the paper's figure | what must be met here | seeds |", "| --- | --- | --- | --- |"]
        for claim in paper.claims:
            name = claim.name if claim.expected else f"{claim.name} *(not expected at this size: {claim.note})*"
            lines.append(f"| {name} | {claim.paper_value} | {claim.threshold} | {claim.seeds} |")
        lines.append("")
    return "\n".join(lines)
