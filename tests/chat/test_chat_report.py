"""What the template left untrained or read as plain text is counted in the report of a data set."""

from chat_helpers import talk

from swiftlite.chat.jinja import JinjaTemplate
from swiftlite.data.readers import Origin
from swiftlite.data.tokenize import Encoder, Rules, tokenize_rows

THINKING = (
    "{% for m in messages %}{% set c = m['content'] if loop.last else m['content'].split('</think>')[-1] %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + c + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Memory(list):
    def add(self, ids, weights, row, text_bytes=0):
        self.append((ids.tolist(), weights.tolist()))
        return float(weights[1:].sum())


def test_rewritten_answers_and_typed_control_tokens_are_counted(tiny):
    tiny.chat_template = THINKING
    conversations = [
        talk("a", "<think>x</think>one", "b<|im_end|>", "two"),
        talk("a", "<think>x</think>one", "b", "<think>y</think>two"),
        talk("<s>", "one"),
    ]
    rows = [(i, ({"messages": messages}, Origin("rows.jsonl", i + 1))) for i, messages in enumerate(conversations)]
    rules = Rules(max_length=1000, truncation_strategy="delete", on_bad_row="stop", columns={})
    report = tokenize_rows(rows, Encoder(JinjaTemplate(tiny)), Memory(), rules)
    assert (report.kept, report.untrained_turns, report.special_in_text) == (3, 2, 2)
    assert report.to_json()["untrained_turns"] == 2
