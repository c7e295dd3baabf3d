"""Compares what swiftlite makes of five conversations with each family's real Jinja template; writes agreement.json.

`python tests/chat/agreement.py` writes the file from what lies under ../shared/data; test_chat_families.py asserts
that it is still true, and scripts/make_docs.py makes the table of docs/models.md of it.
"""

import json
from datetime import date
from functools import cache
from pathlib import Path

from agreement_families import CASES, FAMILIES, SPECIAL, TOOL
from chat_helpers import SHARED, train_tokenizer

from swiftlite.chat.jinja import JinjaTemplate
from swiftlite.chat.pieces import PieceTemplate
from swiftlite.chat.registry import template_pieces
from swiftlite.config.errors import UserError

FILE = Path(__file__).with_name("agreement.json")
AGREES, OWN, NEITHER, UNKNOWN = "agrees", "own Jinja used", "not applicable", "no reference here"
KEPT, REFUSED, DIFFERS = "agrees, but the last thought is kept", "refused", "differs"


def read_template(family):
    path = SHARED / "templates" / family.template
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)["chat_template"]
    # Its README says that this folder's files are to be stripped of these.
    return text.replace("    ", "").replace("\n", "") if path.parent.name == "chat_templates" else text


def tiny_tokenizer(family, template):
    named = template_pieces(family.row).specials if family.row else SPECIAL.findall(template)
    eos = family.eos or family.stop.strip()
    specials = dict.fromkeys([*named, *filter(None, [family.bos, eos])])
    tokenizer = train_tokenizer(list(specials), bos_token=family.bos, eos_token=eos, pad_token=None)
    tokenizer.chat_template = template
    return tokenizer


def expected(family, case):
    if case in family.trained:
        return family.trained[case]
    if case == "tool":
        return f"{family.call}{family.stop}{family.opening}duo{family.stop}"
    said = [m["content"].strip() if family.trim else m["content"] for m in CASES[case] if m["role"] == "assistant"]
    stops = [family.stop if family.inner is None else family.inner] * (len(said) - 1) + [family.stop]
    return "".join(family.opening + text + stop for text, stop in zip(said, stops))


def trained_text(tokenizer, encoded):
    ids = [i for i, weight in zip(encoded.ids, encoded.weights) if weight]
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def reference(tokenizer, template, messages, tools, for_generation=False):
    """The text of transformers' own renderer; None where the template refuses or leaves something out."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            messages, tools=tools, chat_template=template, tokenize=False, add_generation_prompt=for_generation
        )
    except (TemplateError, TypeError):
        return None
    wanted = ["look"] * ("tool_calls" in messages[min(1, len(messages) - 1)]) + ["Looks."] * bool(tools)
    return text if all(word in text for word in wanted) else None


def build(make):
    """A template; None where it refuses the tokenizer."""
    try:
        return make()
    except UserError:
        return None


def built(family, tokenizer, template):
    """Our row and the tokenizer's own template, each None where there is none."""
    tokenizer.chat_template = template
    row = build(lambda: PieceTemplate(family.row, template_pieces(family.row), tokenizer)) if family.row else None
    return row, build(lambda: JinjaTemplate(tokenizer))


def row_agrees(family, ours, tokenizer, template, messages, tools, case):
    """What the row makes of a case beside the reference: AGREES, KEPT or None."""
    try:
        text, encoded = ours.render(messages, tools), ours.encode(messages, tools)
    except UserError:
        return None
    start = messages[: 2 if case == "system" else 1]
    prompt = ours.render(start, tools, for_generation=True)
    exact = encoded.ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    exact = exact and trained_text(tokenizer, encoded) == expected(family, case)
    exact = exact and prompt == reference(tokenizer, template, start, tools, for_generation=True)
    if exact and text == (reference(tokenizer, template, messages, tools) or "") + family.ending:
        return AGREES
    kept = reference(tokenizer, template, [*messages[:-1], {"role": "assistant", "content": "LAST"}], tools) or ""
    return KEPT if exact and text == kept.replace("LAST", messages[-1]["content"]) + family.ending else None


def own_agrees(family, ours, tokenizer, template, messages, tools, case):
    """Whether the tokenizer's own template, through us, gives transformers' ids and the right mask."""
    try:
        encoded = ours.encode(messages, tools)
    except UserError:
        return None
    text = reference(tokenizer, template, messages, tools)
    ids = tokenizer((text or "") + family.ending, add_special_tokens=False)["input_ids"]
    return OWN if encoded.ids == ids and trained_text(tokenizer, encoded) == expected(family, case) else DIFFERS


@cache
def real_tokenizer(name):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(SHARED / "tokenizers" / name)


def real_ids_agree(templates, tokenizer, messages, tools):
    """Whether ids are those of the real tokenizer, with the row and with its own template."""
    for ours in filter(None, templates):
        try:
            text, ids = ours.render(messages, tools), ours.encode(messages, tools).ids
        except UserError:
            continue
        if ids != tokenizer(text, add_special_tokens=False)["input_ids"]:
            return False
    return True


def compare(family):
    """case -> what the table says of it."""
    if family.template is None:
        return dict.fromkeys(CASES, UNKNOWN)
    template = read_template(family)
    tokenizer = tiny_tokenizer(family, template)
    row, own = built(family, tokenizer, template)
    real = real_tokenizer(family.tokenizer) if family.tokenizer else None
    with_real = built(family, real, template) if real else ()
    cells = {}
    for case, messages in CASES.items():
        tools = [TOOL] if case == "tool" else None
        cell = row_agrees(family, row, tokenizer, template, messages, tools, case) if row else None
        cell = cell or (own_agrees(family, own, tokenizer, template, messages, tools, case) if own else None)
        if cell is None:
            told = reference(tokenizer, template, messages, tools) is not None
            cell = REFUSED if told else NEITHER
            if not told and family.row and template_pieces(family.row).tools:
                cell = UNKNOWN
        elif real and not real_ids_agree(with_real, real, messages, tools):
            cell = DIFFERS
        cells[case] = cell
    return cells


def record():
    return {
        name: {
            "row": family.row,
            "template": family.template,
            "tokenizer": family.tokenizer,
            "cases": compare(family),
        }
        for name, family in FAMILIES.items()
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(record(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {FILE} on {date.today()}")
