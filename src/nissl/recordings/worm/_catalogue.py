"""Every annotation of the worm's wiring that the two packages carry: where its file is, how it is read, what its
weights mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from nissl.errors import unknown
from nissl.recordings.worm._files import folder, installed

SECTIONS = "serial sections"
SYNAPSES = "synapses"
PATHWAYS = "ligand-receptor pathways"


@dataclass(frozen=True)
class Annotation:
    """One published reading of the worm's wiring.

    Attributes
    ----------
    name
        As `connectome(name)` takes it.
    package, file, form
        Where it lies, and how it is written there.
    reference
        Who published it.
    animal
        Sex and stage, and the animal's name where it has one.
    weight
        What its weights count.
    note
        What a user should know of it.
    synaptic
        Whether connections by a named transmitter are synapses (or, where False, reach out of the synapse for the four
        monoamines).
    """

    name: str
    package: str
    file: str
    form: str
    reference: str
    animal: str
    weight: str
    note: str = ""
    synaptic: bool = False


def _cect(
    name: str, file: str, reference: str, animal: str, weight: str, note: str = "", synaptic: bool = False
) -> Annotation:
    return Annotation(name, "cect", f"cache/{file}.json", "cache", reference, animal, weight, note, synaptic)


def _table(
    name: str, package: str, file: str, reference: str, animal: str, weight: str = SYNAPSES, note: str = ""
) -> Annotation:
    return Annotation(name, package, f"data/{file}", "edges", reference, animal, weight, note)


_WITVLIET = ("L1, 0 h", "L1, 5 h", "L1, 8 h", "L1, 16 h", "L2, 23 h", "L3, 27 h", "adult, 45 h", "adult, 45 h")
_WHITE, _ADULT = "White et al. 1986", "hermaphrodite, adult"
_ATLAS = "wormneuroatlas"
_LEGACY = "kept in cect for reference only; prefer the annotation that it is based on"

KNOWN: tuple[Annotation, ...] = (
    _cect("Cook2019Herm", "Cook2019HermReader", "Cook et al. 2019", _ADULT, SECTIONS),
    _cect("Cook2019Male", "Cook2019MaleReader", "Cook et al. 2019", "male, adult", SECTIONS),
    _cect("Cook2020", "Cook2020DataReader", "Cook et al. 2020", _ADULT, SECTIONS, "pharynx only"),
    *(
        _cect(f"Witvliet{i}", f"WitvlietDataReader{i}", "Witvliet et al. 2021", f"hermaphrodite, {age}", SYNAPSES, "nerve ring only")
        for i, age in enumerate(_WITVLIET, 1)
    ),
    _cect("White_whole", "White_whole", _WHITE, "hermaphrodite, pooled from several", SYNAPSES, "as read by Varshney et al. 2011, with the pharynx"),
    _table("White_A", "cect", "aconnectome_white_1986_A.csv", _WHITE, f"{_ADULT} (N2U)"),
    _table("White_L4", "cect", "aconnectome_white_1986_L4.csv", _WHITE, "hermaphrodite, L4 (JSH)"),
    _cect("WhiteN2U", "DurbinN2UDataReader", "White et al. 1986, Durbin 1987", f"{_ADULT} (N2U)", SYNAPSES, "Durbin's list of synapses"),
    _cect("WhiteJSH", "DurbinJSHDataReader", "White et al. 1986, Durbin 1987", "hermaphrodite, L4 (JSH)", SYNAPSES, "Durbin's list of synapses"),
    _cect("Varshney", "VarshneyDataReader", "Varshney et al. 2011", _ADULT, SYNAPSES, "without the pharynx"),
    _cect("OpenWorm", "OpenWormUnifiedReader", "OpenWorm", _ADULT, SECTIONS, "several annotations in one; changes from version to version", True),
    _cect("OpenWormSpreadsheet", "SpreadsheetDataReader", "OpenWorm", _ADULT, SYNAPSES, _LEGACY, True),
    _cect("OpenWormUpdated", "UpdatedSpreadsheetDataReader", "OpenWorm", _ADULT, SECTIONS, _LEGACY, True),
    _cect("OpenWormUpdated2", "UpdatedSpreadsheetDataReader2", "OpenWorm", _ADULT, SECTIONS, _LEGACY, True),
    _cect("HaspelODonovan", "HaspelODonovanDataReader", "Haspel and O'Donovan 2011", _ADULT, SYNAPSES, "ventral cord, in part extrapolated from a repeating pattern"),
    _cect("HaspelODonovan1Seg", "HaspelODonovan1SegDataReader", "Haspel and O'Donovan 2011", _ADULT, SYNAPSES, "one repeating unit of the ventral cord"),
    _cect("Gleeson2018", "GleesonModelReader", "Gleeson et al. 2018", "model", "scale of the model's synapse", "a model's wiring"),
    _cect("Olivares2021", "OlivaresModelReader", "Olivares et al. 2021", "model", "scale of the model's synapse", "a model's wiring"),
    _cect("Yim2024", "Yim2024DataReader", "Yim et al. 2024", "hermaphrodite, dauer", "share of the active zones' volume", "normalised; no gap junctions"),
    _cect("Yim2024NonNorm", "Yim2024NonNormDataReader", "Yim et al. 2024", "hermaphrodite, dauer", "cubic nanometres of active zone"),
    _cect("Yim2024Contactome", "Yim2024ContactomeDataReader", "Yim et al. 2024", "hermaphrodite, dauer", "share of the contact area"),
    _cect("Yim2024ContactomeNonNorm", "Yim2024ContactomeNonNormDataReader", "Yim et al. 2024", "hermaphrodite, dauer", "square nanometres of contact"),
    _cect("Brittin2021", "BrittinDataReader", "Brittin et al. 2021", "hermaphrodite, L4 and adult", "contact area", "contacts found on both sides of both animals"),
    _cect("Bentley2016_MA", "Bentley2016MAReader", "Bentley et al. 2016", _ADULT, "1 a monoamine", "released by the one, a receptor on the other"),
    _cect("Bentley2016_Pep", "Bentley2016PepReader", "Bentley et al. 2016", _ADULT, "1 a pair", "peptide of the one, a receptor on the other"),
    _cect("RipollSanchezShortRange", "RipollSanchezShortRangeReader", "Ripoll-Sanchez et al. 2023", _ADULT, PATHWAYS, "processes in the same bundle"),
    _cect("RipollSanchezMidRange", "RipollSanchezMidRangeReader", "Ripoll-Sanchez et al. 2023", _ADULT, PATHWAYS, "processes in the same part of the body"),
    _cect("RipollSanchezLongRange", "RipollSanchezLongRangeReader", "Ripoll-Sanchez et al. 2023", _ADULT, PATHWAYS, "any distance"),
    Annotation("RipollSanchezMonoamine", "cect", "data/08062023_monoamine_connectome.csv", "square", "Ripoll-Sanchez et al. 2023", _ADULT, PATHWAYS, "monoamines"),
    _cect("Wang2024Herm", "Wang2024HermReader", "Wang et al. 2024", _ADULT, "1 a transmitter", "transmitters on the connections of Cook et al. 2019"),
    _cect("Wang2024Male", "Wang2024MaleReader", "Wang et al. 2024", "male, adult", "1 a transmitter", "transmitters on the connections of Cook et al. 2019"),
    _cect("WormNeuroAtlasFunc", "WormNeuroAtlasFuncReader", "Randi et al. 2023", _ADULT, "dF/F", "significant responses, q < 0.05; what was not measured is not marked"),
    _cect("WormNeuroAtlas", "WormNeuroAtlasReader", "Randi et al. 2023", "hermaphrodite, pooled from several", SYNAPSES, "transmitters on pooled connections; not validated", True),
    Annotation("Randi2023_wt", _ATLAS, "data/funatlas.h5", "signal:wt", "Randi et al. 2023", _ADULT, "dF/F", "q < 0.05, pairs that were not measured are NaN"),
    Annotation("Randi2023_unc31", _ATLAS, "data/funatlas.h5", "signal:unc31", "Randi et al. 2023", "unc-31 mutant", "dF/F", "q < 0.05; without dense core vesicles"),
    Annotation("WormNeuroAtlas_pooled", _ATLAS, "data/aconnectome_default.h5", "pooled", "Randi et al. 2023", "hermaphrodite, pooled from several", SYNAPSES, "White and Witvliet added up"),
    Annotation("WormNeuroAtlas_White_whole", _ATLAS, "data/aconnectome.json", "white", _WHITE, "hermaphrodite, pooled from several", SYNAPSES),
    _table("WormNeuroAtlas_White_A", _ATLAS, "aconnectome_white_1986_A.csv", _WHITE, f"{_ADULT} (N2U)"),
    _table("WormNeuroAtlas_White_L4", _ATLAS, "aconnectome_white_1986_L4.csv", _WHITE, "hermaphrodite, L4 (JSH)"),
    _table("WormNeuroAtlas_White", _ATLAS, "aconnectome_white_1986_whole.csv", _WHITE, "hermaphrodite, pooled from several"),
    _table("WormNeuroAtlas_Witvliet7", _ATLAS, "aconnectome_witvliet_2020_7.csv", "Witvliet et al. 2021", "hermaphrodite, adult, 45 h", note="nerve ring only"),
    _table("WormNeuroAtlas_Witvliet8", _ATLAS, "aconnectome_witvliet_2020_8.csv", "Witvliet et al. 2021", "hermaphrodite, adult, 45 h", note="nerve ring only"),
    Annotation("WormNeuroAtlas_Bentley_MA", _ATLAS, "data/esconnectome_monoamines_Bentley_2016.csv", "ligands:monoamine", "Bentley et al. 2016", _ADULT, PATHWAYS),
    Annotation("WormNeuroAtlas_Bentley_Pep", _ATLAS, "data/esconnectome_neuropeptides_Bentley_2016.csv", "ligands:peptide", "Bentley et al. 2016", _ADULT, PATHWAYS),
)  # fmt: skip
# cect's own trial data, and a table that is no wiring.
_NO_WIRING = ("TestDataReader", "symmetry_measures")


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Annotation]:
    """What is installed, by name; caches that a newer cect brings and that are not described here come last."""
    found = {a.name: a for a in KNOWN if installed(a.package) and (folder(a.package) / a.file).exists()}
    if installed("cect"):
        described = {a.file for a in KNOWN}
        for path in sorted((folder("cect") / "cache").glob("*.json")):
            file = f"cache/{path.name}"
            if file not in described and path.stem not in _NO_WIRING:
                name = path.stem.removesuffix("Reader").removesuffix("Data")
                found[name] = Annotation(name, "cect", file, "cache", "", "", "", "not described here")
    if not found:
        folder("cect")  # raises, with how to install it
    return found


def annotation(name: str) -> Annotation:
    """One by name, or the error with the nearest names."""
    known = catalogue()
    if name not in known:
        raise unknown("connectome", name, known, "recordings.worm.connectomes() lists them all")
    return known[name]
