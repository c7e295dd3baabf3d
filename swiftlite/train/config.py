"""Settings of training: what the optimizer does, and when a run logs, evaluates and saves."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from swiftlite.chat.config import ChatConfig
from swiftlite.config.aliases import NAMES, Given
from swiftlite.config.command import CommandConfig, Layer, read_recipe
from swiftlite.config.errors import UserError
from swiftlite.config.general import GeneralConfig
from swiftlite.config.options import NONE_WORDS, option
from swiftlite.data.config import DataConfig, TextDataConfig
from swiftlite.models.config import ModelConfig, ScratchOptions
from swiftlite.quant.config import QuantOptions
from swiftlite.speed.config import SpeedOptions
from swiftlite.tuners.config import TunerConfig
from swiftlite.tuners.galore.config import GaloreOptions
from swiftlite.tuners.lisa.config import LisaOptions
from swiftlite.tuners.lora.config import LoraOptions
from swiftlite.tuners.registry import refusal_of, settings_read, settle_tuner, tuner_parts
from swiftlite.tuners.support import features_asked


@dataclass
class OptimConfig:
    num_train_epochs: float = option(3, "passes over the training rows")
    max_steps: int = option(-1, "stop after this many optimizer steps, whatever the epochs; -1: no limit")
    batch_size: int = option(1, "rows (with --packing: bins or blocks) in a micro-batch, per device")
    gradient_accumulation_steps: int | None = option(
        None, "micro-batches in an optimizer step; none: enough for 16 rows a step over all devices"
    )
    global_batch_size: int | None = option(
        None, "rows in an optimizer step over all devices; sets gradient_accumulation_steps"
    )
    learning_rate: float | None = option(None, "none: 1e-4 for adapters, 1e-5 for full")
    lr_scheduler_type: Literal[
        "cosine",
        "linear",
        "constant",
        "constant_with_warmup",
        "polynomial",
        "inverse_sqrt",
        "cosine_with_min_lr",
    ] = option("cosine", "how the learning rate falls")
    lr_scheduler_kwargs: dict = option({}, "further settings of the scheduler, as JSON", rare=True)
    warmup_ratio: float = option(0.05, "share of the steps in which the learning rate rises")
    warmup_steps: int = option(0, "steps in which the learning rate rises; above 0 it wins over the ratio", rare=True)
    optim: Literal[
        "adamw",
        "adamw_8bit",
        "paged_adamw",
        "paged_adamw_8bit",
        "lion",
        "adafactor",
        "muon",
        "sgd",
        "apollo",
        "schedule_free",
    ] = option(
        "adamw",
        "8bit: states in 8 bits; paged: states that move to the host when the GPU is full (these and lion are "
        "bitsandbytes'); adafactor: hardly any states; muon: hidden matrices by Muon, apollo: by projected step sizes, "
        "the rest by AdamW; schedule_free: AdamW that averages weights (package schedulefree)",
    )
    apollo_rank: int = option(256, "apollo: dimensions in which step sizes are learnt", rare=True)
    apollo_update_gap: int = option(200, "apollo: steps between new random projections", rare=True)
    apollo_scale: float = option(1.0, "apollo: factor of its updates; APOLLO-Mini: 11.3 (root of 128)", rare=True)
    apollo_scale_type: Literal["channel", "tensor"] = option(
        "channel", "apollo: a step size for each channel, or one for a matrix (APOLLO-Mini, with rank 1)", rare=True
    )
    optim_in_backward: bool = option(
        False,
        "full: update each weight as soon as its gradient is known, which is then freed: no memory for gradients; "
        "where a gradient is not finite, only the weights it belongs to are left as they are",
        rare=True,
    )
    weight_decay: float = option(0.1, "decoupled weight decay; none on biases and norms")
    adam_beta1: float = option(0.9, "AdamW's first beta", rare=True)
    adam_beta2: float = option(0.95, "AdamW's second beta", rare=True)
    adam_epsilon: float = option(1e-8, "AdamW's epsilon", rare=True)
    max_grad_norm: float = option(1.0, "gradients are scaled down to this norm; 0: never")
    max_bad_steps: int = option(5, "stop after this many steps in a row whose gradients are not finite", rare=True)
    gradient_checkpointing: Literal["auto", "off", "selective", "full"] = option(
        "auto",
        "what is not kept for the backward pass but computed again there: of each layer all but the attention "
        "(selective) or all (full: least memory, about a fifth slower), or nothing (off); auto: on a GPU the fastest "
        "that a trial with the longest batch fits into memory, else off",
        bare="full",
    )
    optim_precision: Literal["auto", "fp32", "same", "stochastic"] = option(
        "auto",
        "full: keep and update the weights in fp32 while the maths runs in --dtype (fp32), or in --dtype itself (same: "
        "half the memory, but changes under 1/256 of a bf16 weight are lost; stochastic: bf16 rounded up or down at "
        "random, so that none is lost on average); auto: fp32 for pt and fp16, else same",
    )
    deterministic: bool = option(False, "bit-identical repeats on a GPU, at some speed (a CPU always is)", rare=True)

    def check(self) -> None:
        positive = ("num_train_epochs", "batch_size", "max_bad_steps", "adam_epsilon", "apollo_scale")
        for name in positive:
            if getattr(self, name) <= 0:
                raise UserError(f"--{name}: {getattr(self, name)} must be above 0")
        for name in ("weight_decay", "max_grad_norm", "warmup_steps"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name}: {getattr(self, name)} must not be negative")
        for name in ("adam_beta1", "adam_beta2", "warmup_ratio"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name}: {getattr(self, name)} is not between 0 and 1")
        for name in ("apollo_rank", "apollo_update_gap"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}: {getattr(self, name)} must be 1 or more")
        if self.gradient_accumulation_steps is not None and self.gradient_accumulation_steps < 1:
            raise UserError(f"--gradient_accumulation_steps: {self.gradient_accumulation_steps} must be 1 or more")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise UserError(f"--learning_rate: {self.learning_rate} must be above 0")
        if self.max_steps == 0 or self.max_steps < -1:
            raise UserError(f"--max_steps: {self.max_steps} is neither -1 (no limit) nor a number of steps")


@dataclass
class RunConfig:
    output_dir: str = option("output", "runs are written to OUTPUT_DIR/MODEL/RUN_NAME")
    run_name: str | None = option(None, "name of the run's folder; none: v0, v1, ... with the date")
    resume: str | None = option(
        None,
        "go on with a run: its folder, one of its checkpoints, or no value for the newest run of this model",
        bare="newest",
    )
    logging_steps: int = option(5, "steps between log lines")
    eval_strategy: Literal["steps", "epoch", "no"] = option("steps", "when to evaluate")
    eval_steps: int | None = option(None, "steps between evaluations; none: as save_steps")
    eval_batch_size: int | None = option(None, "rows in an evaluation batch; none: as batch_size")
    save_strategy: Literal["steps", "epoch", "no"] = option("steps", "when to save a checkpoint")
    save_steps: int = option(500, "steps between checkpoints")
    save_total_limit: int | None = option(2, "checkpoints kept: the newest ones, and always the best one; none: all")
    save_dtype: Literal["auto", "bf16", "fp16", "fp32"] = option(
        "auto", "precision of the whole weights in final/ (checkpoints keep what is trained); auto: --dtype"
    )
    save_only_model: bool = option(False, "leave optimizer state out of checkpoints; such a run cannot resume")
    early_stopping_patience: int | None = option(
        None, "stop after this many evaluations in a row without a better eval loss"
    )
    report_to: list[Literal["tensorboard", "wandb", "swanlab"]] = option(
        [], "trackers beside log.jsonl and the plots; without a login they record offline"
    )
    profile: int | None = option(
        None,
        "profile this many steps, after the first five, into RUN/profile/: a trace, a table, and how busy the device "
        "was; rates leave these steps out",
        rare=True,
    )

    def check(self) -> None:
        for name in (
            "logging_steps",
            "save_steps",
            "eval_steps",
            "eval_batch_size",
            "early_stopping_patience",
            "profile",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name}: {value} must be 1 or more")
        if self.save_total_limit is not None and self.save_total_limit < 1:
            raise UserError(
                f"--save_total_limit: {self.save_total_limit} must be 1 or more; --save_strategy no saves none"
            )
        if self.early_stopping_patience and self.eval_strategy == "no":
            raise UserError("--early_stopping_patience needs evaluations; --eval_strategy no makes none")
        if self.run_name is not None and (not self.run_name or "/" in self.run_name or self.run_name.startswith(".")):
            raise UserError(f"--run_name: '{self.run_name}' is not the name of a folder")


class TrainConfig(CommandConfig):
    """What the settings of all training commands have in common."""

    general: GeneralConfig
    model: ModelConfig
    data: DataConfig
    tuner: TunerConfig
    lora: LoraOptions
    lisa: LisaOptions
    optim: OptimConfig
    quant: QuantOptions
    speed: SpeedOptions
    run: RunConfig
    galore: GaloreOptions

    @classmethod
    def expand(cls, layers: list[Layer]) -> list[Layer]:
        """A run that is gone on with brings its own settings; its run.yaml with a bare `--resume` names it."""
        given = [g for layer in layers for g in layer.given if NAMES.get(g.name, g.name) == "resume" and g.value]
        if not given or str(given[-1].value).lower() in NONE_WORDS:
            return layers
        resume, recipes = given[-1], [Path(r.source) for r in layers if r.source.endswith("run.yaml")]
        if resume.value == "newest":
            named = [Layer("flag", [Given("resume", str(recipe.parent), resume.written)]) for recipe in recipes]
            return [*layers, *named]
        if recipes:
            return layers
        run = run_of(Path(resume.value).expanduser())
        if run is None:
            raise UserError(f"--resume {resume.value}: neither a run folder nor one of its checkpoints")
        return [read_recipe(run / "run.yaml"), *layers]

    @classmethod
    def all_parts(cls) -> dict[str, type]:
        """The parts above, and those of tuners that plugins registered."""
        return cls.parts | tuner_parts()

    def check(self) -> None:
        super().check()
        settle_tuner(self)
        if self._needs_dataset() and not self.data.dataset:
            raise UserError("no data given: pass --dataset FILE_OR_NAME (try --dataset demo)")
        if self.data.streaming and self.optim.max_steps < 0:
            raise UserError("--streaming true needs --max_steps: nobody knows how many rows a stream has")
        if self.run.resume == "":
            raise UserError("--resume is empty: give a run folder, or no value for the newest run of this model")
        if self.speed.offload_activations and self.optim.gradient_checkpointing == "off":
            raise UserError(
                "--offload_activations true moves what checkpointed layers keep, and --gradient_checkpointing off "
                "checkpoints none; pass --gradient_checkpointing full or selective"
            )
        self.check_support()
        self._note_idle_settings()
        self._make_absolute()

    def _needs_dataset(self) -> bool:
        return True

    def _make_absolute(self) -> None:
        """Names of files and folders hold wherever the recipe is run from."""
        for part, name in ((self.data, "dataset"), (self.data, "val_dataset"), (self.model, "adapters")):
            setattr(part, name, [_absolute(value, name) for value in getattr(part, name)])
        for name in ("model", "tokenizer"):
            if getattr(self.model, name) is not None:
                setattr(self.model, name, _absolute(getattr(self.model, name), name))

    def check_support(self, world_size: int = 1) -> None:
        """Raises a UserError where the tuner cannot go with what is asked for."""
        settings = self.to_dict()
        for feature in features_asked(settings, world_size):
            refusal = refusal_of(self.tuner.sft_type, feature, settings)
            if refusal is not None:
                raise UserError(refusal.sentence())

    def _note_idle_settings(self) -> None:
        """Old command lines give LoRA's settings to full runs too; that is no error, but it is said."""
        options, of_tuners = self.options(), {"tuner", *tuner_parts()}
        read = settings_read(self.tuner.sft_type) | {"sft_type", "neftune_noise_alpha"}
        idle = [
            f"--{name}"
            for name, (_, source) in self.non_default().items()
            if options[name].part in of_tuners and name not in read and not source.startswith("preset")
        ]
        if idle:
            self.notices.append(f"{', '.join(idle)}: no effect with --sft_type {self.tuner.sft_type}")
        idle = [f"--{name}" for name in self.non_default() if options[name].part == "galore"]
        if idle and not self.galore.use_galore:
            self.notices.append(f"{', '.join(idle)}: no effect without --use_galore true")


class SftConfig(TrainConfig):
    """Settings of `swiftlite sft`."""

    command: ClassVar[str] = "sft"
    parts: ClassVar[dict[str, type]] = {
        "general": GeneralConfig,
        "model": ModelConfig,
        "chat": ChatConfig,
        "data": DataConfig,
        "tuner": TunerConfig,
        "lora": LoraOptions,
        "optim": OptimConfig,
        "quant": QuantOptions,
        "speed": SpeedOptions,
        "run": RunConfig,
        "galore": GaloreOptions,
    }
    # research behind the numbers: ms-swift v1.5 to v2.0, argument defaults at the time of its tables.
    presets: ClassVar[dict[str, dict]] = {
        "seed": {
            "num_train_epochs": 1,
            "lora_target_modules": ["DEFAULT"],
            "lora_dropout": 0.05,
            "adapter_init": "xavier",
            "lr_scheduler_type": "linear",
            "weight_decay": 0.01,
            "adam_beta2": 0.999,
            "max_grad_norm": 0.5,
            "gradient_accumulation_steps": 16,
            "save_steps": 50,
        }
    }

    chat: ChatConfig


@dataclass
class PretrainModelConfig(ModelConfig):
    def check(self) -> None:
        """Which model is needed depends on --from_scratch: PtConfig checks it."""


@dataclass
class PretrainTunerConfig(TunerConfig):
    sft_type: str = option("full", "the tuner: full, or lora to go on pre-training with an adapter")


@dataclass
class PretrainOptimConfig(OptimConfig):
    num_train_epochs: float = option(1, "passes over the training texts")
    learning_rate: float | None = option(None, "none: 5e-4 from scratch, else 1e-4 for adapters, 1e-5 for full")


@dataclass
class EvalOnlyOptions:
    eval_only: bool = option(
        False, "train nothing: loss, perplexity and bits per byte of each --val_dataset, under --model as it is"
    )

    def check(self) -> None:
        """Nothing to check alone."""


class PtConfig(TrainConfig):
    """Settings of `swiftlite pt`."""

    command: ClassVar[str] = "pt"
    parts: ClassVar[dict[str, type]] = {
        "general": GeneralConfig,
        "model": PretrainModelConfig,
        "scratch": ScratchOptions,
        "data": TextDataConfig,
        "tuner": PretrainTunerConfig,
        "lora": LoraOptions,
        "optim": PretrainOptimConfig,
        "quant": QuantOptions,
        "speed": SpeedOptions,
        "run": RunConfig,
        "galore": GaloreOptions,
        "pretrain": EvalOnlyOptions,
    }

    data: TextDataConfig  # pyrefly: ignore
    scratch: ScratchOptions
    pretrain: EvalOnlyOptions

    @property
    def only_tokenizer(self) -> bool:
        """Whether a tokenizer is all that is wanted."""
        return self.scratch.train_tokenizer and not self.scratch.from_scratch

    def check(self) -> None:
        super().check()
        model, scratch = self.model, self.scratch
        if not (scratch.from_scratch or scratch.train_tokenizer):
            ModelConfig.check(model)
        if scratch.from_scratch:
            if self.tuner.sft_type != "full":
                raise UserError(f"--sft_type {self.tuner.sft_type} leaves random weights frozen; leave it away")
            for flag, value in (("adapters", model.adapters), ("weights", model.weights != "auto")):
                if value:
                    raise UserError(f"--{flag} names weights and --from_scratch wants none; choose one")
        if self.only_tokenizer and (model.model or model.model_type):
            raise UserError(
                f"--train_tokenizer: {model.model or model.model_type} has a tokenizer that its weights were trained "
                "with; add --from_scratch to train anew, or leave the model away to train a tokenizer alone"
            )
        if scratch.train_tokenizer and model.tokenizer is not None:
            raise UserError(f"--train_tokenizer makes the tokenizer and --tokenizer {model.tokenizer} names one")
        if self.pretrain.eval_only:
            if not self.data.val_dataset:
                raise UserError("--eval_only: name the texts to evaluate on with --val_dataset")
            if scratch.from_scratch or scratch.train_tokenizer:
                raise UserError("--eval_only takes a trained model; leave --from_scratch and --train_tokenizer away")

    def _needs_dataset(self) -> bool:
        return not self.pretrain.eval_only


def run_of(path: Path) -> Path | None:
    """The run folder that `path` is, or that it is a checkpoint of."""
    return next((p for p in (path, path.parent) if (p / "run.yaml").is_file()), None)


def _absolute(name: str, flag: str) -> str:
    """The whole path of an existing file or folder, with its `#N`; any other name as it is."""
    path, mark, count = name.rpartition("#")
    if not mark or not count.isdigit():
        path, mark, count = name, "", ""
    try:
        there = Path(path).expanduser()
        return f"{there.resolve()}{mark}{count}" if there.exists() else name
    except OSError as error:
        raise UserError(f"--{flag}: '{name[:60]}...' is no name and no path: {error.strerror}") from None


class CheckConfig(SftConfig):
    """Settings of `swiftlite check`: those of the run it looks at."""

    command: ClassVar[str] = "check"
