"""`swiftlite sft`, the way of one run: config, model, rows, tokens, tuner, strategy, loop, run folder."""

from swiftlite.chat.template import choose_template
from swiftlite.data.loading import load_data
from swiftlite.models.load import load_config, load_tokenizer
from swiftlite.models.source import resolve_model
from swiftlite.parallel.launch import read_world
from swiftlite.parallel.strategy import make_strategy
from swiftlite.train.config import SftConfig
from swiftlite.train.decide import decide, make_repeatable
from swiftlite.train.header import check_rows, header_lines, say_progress
from swiftlite.train.job import build_job, run_job
from swiftlite.train.model import load_trainable
from swiftlite.train.result import TrainResult
from swiftlite.train.resume import resume_run
from swiftlite.train.run_folder import start_run
from swiftlite.train.saving import WeightsWriter


def run_sft(config: SftConfig) -> TrainResult:
    """Fine-tunes a model on conversations; returns the run's folder, its metrics and the exit code.

    Raises:
        UserError: anything a user can mend; checkpoints saved before stay as they are.
    """
    config.refuse_not_yet()
    world = read_world()
    config, run, checkpoint = resume_run(config) if config.run.resume else (config, None, None)
    device, notes = decide(config, world)
    make_repeatable(config)

    source = resolve_model(config.model, config.general.seed)
    model_config = load_config(source)
    tokenizer = load_tokenizer(source, model_config.vocab_size, notes)
    template = choose_template(source.chat_settings(config.chat), tokenizer, source.template)

    # Before the processes meet: tokenising may take longer than their patience with each other.
    data = load_data(config.data, template, tokenizer=tokenizer, progress=say_progress, wait=world.local_rank > 0)
    check_rows(data, template, tokenizer)

    strategy = make_strategy(device, config.model.dtype, world)
    run = run or start_run(config, source.name, data.report, strategy)
    model, tuner = load_trainable(config, source, model_config, checkpoint, device, notes)
    writer = WeightsWriter(config, model, tuner, tokenizer, template, source)
    job = build_job(config, run, model, tuner, data, tokenizer, strategy, writer, checkpoint)
    job.say(header_lines(config, notes, job, data, template, tokenizer))
    return run_job(job)
