"""A date that a template prints is pinned, part of the fingerprint, and left free in the saved template."""

from datetime import date

import pytest
from chat_helpers import SHARED, talk, train_tokenizer

from swiftlite.chat.config import ChatConfig
from swiftlite.chat.dates import pin_date
from swiftlite.chat.jinja import JinjaTemplate
from swiftlite.chat.template import choose_template
from swiftlite.config.errors import UserError

DATED = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"
DAY = date(2024, 3, 7)


def using(tokenizer, text, day):
    tokenizer.chat_template = text
    return JinjaTemplate(tokenizer, day=day)


@pytest.mark.parametrize(
    "code",
    ["%Y-%m-%d", "%d %b %Y", "%-d.%-m.%y", "%A, %B %d, %Y", "%a %j", "%H:%M:%S %p %I", "%e %F", "100 %%", "%Y%m%d"],
)
def test_it_says_what_strftime_says_of_midnight(tiny, code):
    rendered = using(tiny, f"{{{{ strftime_now('{code}') }}}}{{{{ messages[0]['content'] }}}}", DAY).render(talk("!"))
    assert rendered == DAY.strftime(code) + "!"


def test_it_is_found_inside_of_macros_and_where_it_is_asked_for(tiny):
    text = "{% macro head(x) %}{{ strftime_now(format=x) if strftime_now is defined else 'never' }}{% endmacro %}"
    assert using(tiny, text + "{{ head('%Y') }}{{ messages[0]['content'] }}", DAY).render(talk("!")) == "2024!"


@pytest.mark.parametrize("text", [DATED, "\n" + DATED, "  \n" + DATED])
def test_nothing_else_changes(tiny, text):
    free = tiny.apply_chat_template(talk("a", "b"), chat_template=text, tokenize=False)
    assert using(tiny, text, DAY).render(talk("a", "b")) == free.replace(
        date.today().strftime("%d %b %Y"), "07 Mar 2024"
    )


def test_llama_3_2_prints_the_pinned_day():
    path = SHARED / "templates" / "llama.cpp" / "meta-llama-Llama-3.2-3B-Instruct.jinja"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    tokenizer = train_tokenizer(bos_token="<s>", eos_token="</s>")
    assert "Today Date: 07 Mar 2024\n" in using(tokenizer, path.read_text(), DAY).render(talk("a"))


def test_the_fingerprint_follows_the_day_only_where_it_is_printed(tiny):
    days = (DAY, date(2024, 3, 8))
    assert len({using(tiny, DATED, day).fingerprint for day in days}) == 2
    assert len({using(tiny, DATED.split("}}", 1)[1], day).fingerprint for day in days}) == 1


def test_the_saved_template_still_says_today(tiny):
    assert using(tiny, DATED, DAY).jinja() == DATED


def test_it_is_noted(tiny):
    assert using(tiny, DATED, DAY).notes[0] == "the chat template prints a date; it is 2024-03-07"
    assert not using(tiny, DATED.split("}}", 1)[1], DAY).notes


def test_the_flag_gives_the_day(tiny):
    tiny.chat_template = DATED
    config = ChatConfig(template_date="2024-03-07")
    assert choose_template(config, tiny, None).render(talk("a")) == "07 Mar 2024a<|im_end|>"


def test_without_it_the_day_is_today(tiny):
    tiny.chat_template = DATED
    assert choose_template(ChatConfig(), tiny, None).render(talk("a")).startswith(date.today().strftime("%d %b %Y"))


def test_a_day_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"--template_date 7\.3\.2024 is no day, expected YYYY-MM-DD"):
        ChatConfig(template_date="7.3.2024").check()


def test_quotes_and_other_tongues_in_names_of_days_survive():
    class Day(date):
        def strftime(self, code):
            return {"%b": "mär\"z'"}.get(code, "0")

    assert '"mär\\"z\'"' in pin_date("x", Day(2024, 3, 7))
