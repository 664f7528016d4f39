"""Matrix products: linear maps where one side is a weight, contractions where both are activations."""

from __future__ import annotations

from nissl.diagrams.tracing.record import Step
from nissl.diagrams.tracing.rules.rule import Nodes, Reading, Scene, rule


def product(scene: Scene, left: int, right: int, terms: tuple[str, str, str], added: int | None = None) -> Reading:
    """An einsum of two values, with one letter an axis, such as `ik`, `kj`, `ij`; axes of one letter become one."""
    identity = scene.identity
    letters: dict[str, int] = {}
    for index, term in ((left, terms[0]), (right, terms[1])):
        for letter, node in zip(term, scene.of(index), strict=True):
            if letter in letters:
                identity.union(letters[letter], node)
            if letters.get(letter, identity.ONE) == identity.ONE:
                letters[letter] = node
    ends = [x for x in letters if x not in terms[2]]
    out: Nodes = identity.distinct([letters[x] for x in terms[2]])
    letters.update(zip(terms[2], out, strict=True))
    if added is not None:
        for node, mine in zip(reversed(scene.of(added)), reversed(out), strict=False):
            identity.union(mine, node)
    left_is, right_is = (i in scene.weights for i in (left, right))
    own = terms[1] if right_is else terms[0] if left_is else ""
    other = terms[0] if right_is else terms[1]
    born = [x for x in terms[2] if x in own and x not in other]
    operands = (right, left) if left_is and not right_is else (left, right)
    ordered = (terms[1], terms[0], terms[2]) if operands[0] == right and left != right else terms
    return Reading(
        "linear" if left_is or right_is else "contraction",
        "linear" if left_is or right_is else "·",
        [out],
        contracted=tuple(letters[x] for x in ends),
        born=tuple(letters[x] for x in born),
        terms=ordered,
        letters=letters,
        operands=(*operands, added) if added is not None else operands,
        flops=2 * scene.product(list(letters.values())),
    )


@rule("mm")
def mm(scene: Scene, step: Step) -> Reading:
    """Two matrices."""
    return product(scene, step.arguments[0].index, step.arguments[1].index, ("ik", "kj", "ij"))


@rule("bmm")
def bmm(scene: Scene, step: Step) -> Reading:
    """Two batches of matrices."""
    return product(scene, step.arguments[0].index, step.arguments[1].index, ("bik", "bkj", "bij"))


@rule("mv", "dot")
def mv(scene: Scene, step: Step) -> Reading:
    """A matrix or a vector, and a vector. Torch's counter leaves these out; they are products and sums all the same."""
    first = "ik" if step.operator == "mv" else "k"
    return product(scene, step.arguments[0].index, step.arguments[1].index, (first, "k", first[:-1]))


@rule("addmm", "baddbmm", "addmv")
def addmm(scene: Scene, step: Step) -> Reading:
    """A product and something added. With factors it is no plain einsum, and its operator says what it does."""
    added, left, right = (p.index for p in step.arguments[:3])
    batch = "b" if step.operator == "baddbmm" else ""
    j = "" if step.operator == "addmv" else "j"
    reading = product(scene, left, right, (f"{batch}ik", f"{batch}k{j}", f"{batch}i{j}"), added)
    if any(step.options.get(k, 1) != 1 for k in ("alpha", "beta")):
        reading.terms = ()
    return reading


@rule("_trilinear")
def trilinear(scene: Scene, step: Step) -> Reading:
    """`nn.Bilinear`: two vectors and a matrix for every output. A multiply-add for every index of the weight, and one product
    before it.
    """
    one, weight, two = (p.index for p in step.arguments[:3])
    (*_, i), (*_, j), (out, wi, wj) = scene.of(one), scene.of(two), scene.of(weight)
    scene.identity.union(i, wi)
    scene.identity.union(j, wj)
    batch = scene.of(one)[:-1]
    for x, y in zip(batch, scene.of(two)[:-1], strict=True):
        scene.identity.union(x, y)
    every = scene.product((*batch, out, i, j))
    return Reading(
        "linear",
        "bilinear",
        [(*batch, out)],
        contracted=(i, j),
        born=(out,),
        flops=2 * every,
        elementwise=every,
    )


@rule("_grouped_mm")
def grouped(scene: Scene, step: Step) -> Reading:
    """Every row times the matrix of its expert: rows are sorted by expert, and `offs` says where each one's end."""
    rows, weights = step.arguments[:2]
    (row, k), (expert, taken, made) = scene.of(rows), scene.of(weights)
    scene.identity.union(k, taken)
    scene.identity.hint(expert, "expert", 4)
    cost = 2 * scene.product((row, k, made))
    return Reading(
        "linear", "linear of each group", [(row, made)], acted=(row,), contracted=(k,), born=(made,), flops=cost
    )
