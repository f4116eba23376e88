"""A model card: `README.md` with the YAML head that model hubs read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gan_jax.data.encoded import printable

_CODE = """```python
import gan_jax as gj

model = gj.load_model(".")
images = model.sample(16, seed=0)  # [16, ...] in [-1, 1]
```"""
_TRANSLATES = """```python
import gan_jax as gj, numpy as np

model = gj.load_model(".")
given = [{}]  # your images, uint8 or floats in [-1, 1]
images = model.sample(conditions=given)  # [4, ...] in [-1, 1]
```"""
_PLAIN = """```python
import jax, jax.export, numpy as np

program = jax.export.deserialize(bytearray(open("sample.jaxexport", "rb").read()))
samples = program.call({})
```"""
_ONNX = """```python
import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("generator.onnx")
(samples,) = session.run(["samples"], {{{}}})
```"""
_NOISE = (
    "The noise of its layers is constant unless it is given: optional inputs `[1 or batch, pixels]` of standard "
    "normal numbers, {} pixels."
)
_NOISELESS = (
    "The network draws noise for every sample, such as dropout, which has no form in ONNX: `generator.onnx` is "
    "without it, and its samples are others than those of the other files."
)


def model_card(
    facts: Mapping[str, Any],
    *,
    evaluation: Mapping[str, Any] | None,
    inputs: Sequence[tuple[str, tuple[int, ...], str]],
    license: str,
    pictures: Sequence[str],
    stablehlo: bool,
    onnx: bool,
    noise: Mapping[int, int],
    noiseless: bool = False,
    overridden: Sequence[tuple[int, Sequence[str]]] = (),
) -> str:
    """The text of a model card, in which no name and no value acts as Markdown, HTML or a control character.

    Args:
      facts: what was exported: `player`, `round`, `weights`, `seed`, `experiment`, `config`, `data`, `versions`,
        `commit`, `command`, `classes`.
      evaluation: an entry of `evaluation.json` for this round and seed, if there is one; scores of other weights in
        it are not those of the model.
      inputs: the generator's inputs: name, shape without the batch, dtype.
      license: of the weights, as hubs abbreviate it.
      pictures: files to show.
      stablehlo, onnx: whether these files are there.
      noise: the pixels of each layer's noise that is an optional input in ONNX, by its place.
      noiseless: whether the network draws noise for every sample, which it lacks in ONNX.
      overridden: from which round on `--override` trained it otherwise, and with what.
    """
    objective = str(facts["config"].get("objective", "gan"))
    name = f"{objective} on {facts['config'].get('data', facts['experiment'])}"
    results = _results(facts, evaluation, _task(inputs))
    head = {
        "license": license,
        "library_name": "gan_jax",
        "pipeline_tag": _task(inputs),
        "tags": ["gan", "jax", objective],
        **({"model-index": [{"name": name, "results": results}]} if results else {}),
    }
    given = ", ".join(f'"{what}": {_example(shape, dtype)}' for what, shape, dtype in inputs)
    plain = ", ".join(_example(shape, dtype) for _, shape, dtype in inputs)
    sections = [
        f"# {_text(name)}",
        f"The {_text(facts['player'])} of a GAN after {facts['round']} rounds, {facts['weights']} weights, trained "
        "with gan_jax.",
        *(f"![{picture}]({picture})" for picture in pictures),
        "## Use",
        _TRANSLATES.format(_blank(inputs)) if _translates(inputs) else _CODE,
        *(["Without gan_jax, on CPU, CUDA or TPU:", _PLAIN.format(plain)] if stablehlo else []),
        *(["Without JAX:", _ONNX.format(given)] if onnx else []),
        *(
            [_NOISE.format(", ".join(f"`noise_{place}` of {n}" for place, n in noise.items()))]
            if noise
            else []
        ),
        *([_NOISELESS] if noiseless else []),
        "## Data",
        "\n".join(f"- {_span(what)}: {_span(mark)}" for what, mark in facts["data"].items())
        or "Not recorded.",
        *([f"Classes, by number: {', '.join(map(_text, facts['classes']))}."] if facts["classes"] else []),
        "## Evaluation",
        _table(evaluation, facts["weights"], facts["round"]),
        "## Training",
        _block("sh", facts["command"]),
        *(
            f"By this command alone it is not trained again: from round {step} on the run was trained with "
            f"{_text(', '.join(changed))}."
            for step, changed in overridden
        ),
        (f"Commit: {_span(facts['commit'])}. " if facts["commit"] else "")
        + ", ".join(_text(f"{library} {version}") for library, version in facts["versions"].items())
        + ".",
        _block("json", json.dumps(facts["config"], indent=1, sort_keys=True)),
    ]
    return "---\n" + _yaml(head) + "---\n\n" + "\n\n".join(sections) + "\n"


_MARKS = re.compile(r"[\\`*\[\]|!#~]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _text(value: Any) -> str:
    r"""A value within a line of Markdown: no markup, no HTML, no control characters.

    >>> print(_text("<b>a|b</b>\n# c [d](e) wgan_gp"))
    &lt;b&gt;a\|b&lt;/b&gt;\n\# c \[d\](e) wgan_gp
    """
    marked = _MARKS.sub(lambda match: "\\" + match[0], str(value))
    return printable("".join(_ENTITIES.get(character, character) for character in marked))


def _span(value: Any) -> str:
    """A value as code within a line: whatever is in it, it does not end the code.

    >>> _span("4c7ab3d8"), _span("a`b")
    ('`4c7ab3d8`', '``a`b``')
    """
    text = printable(str(value))
    fence = "`" * (_longest(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _block(language: str, text: str) -> str:
    """Lines of code, which none of them ends."""
    fence = "`" * max(3, _longest(text) + 1)
    return "\n".join([fence + language, *map(printable, text.split("\n")), fence])


def _longest(text: str) -> int:
    """The most backticks in a row."""
    return max(map(len, re.findall("`+", text)), default=0)


def _example(shape: tuple[int, ...], dtype: str) -> str:
    if dtype.startswith("int"):
        return f"np.zeros(({', '.join(map(str, (4, *shape)))},), np.{dtype})"
    return f"np.random.default_rng(0).normal(size={(4, *shape)}).astype(np.{dtype})"


def _blank(inputs: Sequence[tuple[str, tuple[int, ...], str]]) -> str:
    """Black images of the inputs' shapes, for an example."""
    return ", ".join(f"np.zeros({(4, *shape)}, np.uint8)" for _, shape, _ in inputs)


def _translates(inputs: Sequence[tuple[str, tuple[int, ...], str]]) -> bool:
    """Whether a generator makes images of images alone."""
    return bool(inputs) and all(
        name.startswith("condition_") and len(shape) == 3 for name, shape, _ in inputs
    )


def _task(inputs: Sequence[tuple[str, tuple[int, ...], str]]) -> str:
    """The task as hubs name it."""
    return "image-to-image" if _translates(inputs) else "unconditional-image-generation"


def _numbers(evaluation: Mapping[str, Any] | None, weights: str) -> dict[str, float]:
    found: Mapping[str, Any] = (evaluation or {}).get("samples", {}).get(weights, {})
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _results(
    facts: Mapping[str, Any], evaluation: Mapping[str, Any] | None, task: str
) -> list[dict[str, Any]]:
    """Metrics in the form of a hub's model index; the fingerprint says what each was computed of."""
    marks = {
        metric: mark
        for mark in (evaluation or {}).get("fingerprints", {}).values()
        for metric in mark["metrics"]
    }
    metrics = [
        {
            "type": name,
            "name": name,
            "value": value,
            **({"args": {"fingerprint": marks[name]["key"]}} if name in marks else {}),
        }
        for name, value in _numbers(evaluation, facts["weights"]).items()
    ]
    if not metrics:
        return []
    data = str(facts["config"].get("data", facts["experiment"]))
    return [{"task": {"type": task}, "dataset": {"type": data, "name": data}, "metrics": metrics}]


def _table(evaluation: Mapping[str, Any] | None, weights: str, round: int) -> str:
    numbers = _numbers(evaluation, weights)
    if not numbers:
        return (
            f"The {weights} weights were not evaluated at this round: `gan-jax --mode=evaluate`, then export "
            "again."
        )
    assert evaluation is not None
    ends = evaluation.get("intervals", {}).get("samples", {}).get(weights, {})

    def interval(name: str) -> str:
        return " [{:.4g}, {:.4g}]".format(*map(float, ends[name])) if name in ends else ""

    rows = "\n".join(f"| {_text(name)} | {value:.4g}{interval(name)} |" for name, value in numbers.items())
    marks = [
        ", ".join(_text(f"{k} {v}") for k, v in mark.items() if k not in ("metrics", "left_out") and v != "")
        for mark in evaluation["fingerprints"].values()
    ]
    notes = [
        f"From round {_text(each['step'])} on the run was trained with {_text(', '.join(each['changed']))}: "
        + (
            "what it is scored against may have been trained on before."
            if each["step"] < round
            else "this round was trained before, and is scored with what the run has since."
        )
        for each in evaluation.get("overridden", ())
    ]
    if changed := evaluation.get("changed"):
        notes.append(f"It was evaluated with what it was not trained with: {_text('; '.join(changed))}.")
    return "\n\n".join(
        [
            f"| metric | value |\n| --- | --- |\n{rows}",
            *(f"Fingerprint: {mark}" for mark in marks),
            *notes,
        ]
    )


def _yaml(value: Any, indent: int = 0) -> str:
    """Nested mappings and lists as YAML, every text quoted as JSON quotes it.

    >>> print(_yaml({"a": [{"b": 1, "c": "x: y"}], "d": {"e": True}}), end="")
    a:
      - b: 1
        c: "x: y"
    d:
      e: true
    """
    space, lines = " " * indent, []
    for name, item in value.items():
        if isinstance(item, Mapping):
            lines.append(f"{space}{name}:\n{_yaml(item, indent + 2)}")
        elif isinstance(item, list):
            lines.append(f"{space}{name}:\n")
            for entry in item:
                if isinstance(entry, Mapping):
                    nested = _yaml(entry, indent + 4)
                    lines.append(f"{space}  - {nested[indent + 4 :]}")
                else:
                    lines.append(f"{space}  - {json.dumps(entry)}\n")
        else:
            lines.append(f"{space}{name}: {json.dumps(item)}\n")
    return "".join(lines)
