"""Tutorials: what the site runs of a page, what it shows below, and the notebook that is made of it."""

import base64
import contextlib
import io

import pytest
from PIL import Image

from docs import _notebooks
from tests.docs.pages import ROOT, blocks

PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PAGE = """Text with a [link](../other.md) and [another](https://example.org).

```python
x = 2
print("two:", x)
```

```sh
gan-jax
```

```python
y = x + 1
(y,
 x)
```
"""


def run(text, session="page"):
    """What the site's blocks print, in order."""
    namespace, said = {}, []
    for block in text.split(f'session="{session}"\n')[1:]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(block.partition("\n```")[0], namespace)
        said.append(output.getvalue())
    return said


def test_a_page_shows_what_its_code_prints_and_the_value_of_its_last_line():
    made = _notebooks.executed(PAGE, "page")
    assert made.count('exec="on" result="text"') == 2
    assert made.count('exec="on" html="on"') == 1
    assert run(made) == ["two: 2\n", "", "<pre><code>(3, 2)</code></pre>\n"]
    for block in blocks_of(PAGE):
        assert f"```python\n{block}```" in made, "the code is shown as it is written"


def blocks_of(text):
    return [found[1] for found in _notebooks.BLOCK.finditer(text)]


def test_a_notebook_has_the_page_in_cells_and_links_only_to_the_web():
    made = _notebooks.notebook(PAGE)
    kinds = [cell["cell_type"] for cell in made["cells"]]
    assert kinds == ["markdown", "code", "markdown", "code"]
    text, first, shell, last = ("".join(cell["source"]) for cell in made["cells"])
    assert text == "Text with a link and [another](https://example.org)."
    assert first == 'x = 2\nprint("two:", x)'
    assert shell == "```sh\ngan-jax\n```"
    assert last.endswith("(y,\n x)")
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)


def test_a_picture_is_shown_as_a_picture():
    picture = Image.new("L", (3, 2), 7)
    data = _notebooks.displayed(picture).partition("base64,")[2].partition('"')[0]
    with Image.open(io.BytesIO(base64.b64decode(data))) as read:
        assert (read.size, read.getpixel((0, 0))) == ((3, 2), 7)
    assert _notebooks.displayed(None) == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_notebook_of_a_page_has_all_of_its_code(page):
    cells = _notebooks.notebook(page.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code == [block.text.rstrip("\n") for block in blocks(page, "python")]
    assert not [cell for cell in cells if "](.." in "".join(cell["source"])]
