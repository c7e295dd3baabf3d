"""Rates against a clock set by hand."""

import pytest

from swiftlite.measure.flops import AttentionLayer, ModelFlops
from swiftlite.measure.throughput import Meter


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def step(meter, clock, seconds, **changes):
    clock.now += seconds
    counts = {"samples": 4, "tokens": 300, "trained": 120, "padded": 100, "squared_lengths": 22500}
    meter.add(**counts | changes)


def test_rates_of_a_window():
    clock = Clock()
    meter = Meter(clock=clock)
    step(meter, clock, 1)
    step(meter, clock, 3)
    assert meter.since_last_log() == {
        "samples_per_s": 2,
        "tokens_per_s": 150,
        "trained_tokens_per_s": 60,
        "padding_share": 0.25,
        "seconds_per_step": 2,
    }


def test_a_window_starts_at_the_last_log():
    clock = Clock()
    meter = Meter(clock=clock)
    step(meter, clock, 10)
    meter.since_last_log()
    step(meter, clock, 2)
    assert meter.since_last_log()["samples_per_s"] == 2


def test_total_leaves_out_the_warmup_steps():
    clock = Clock()
    meter = Meter(warmup_steps=2, clock=clock)
    for seconds in (60, 30, 1, 1):
        step(meter, clock, seconds)
    assert meter.total()["seconds_per_step"] == 1


def test_a_run_no_longer_than_its_warmup_is_measured_whole():
    clock = Clock()
    meter = Meter(warmup_steps=2, clock=clock)
    step(meter, clock, 4)
    step(meter, clock, 4)
    assert meter.total()["seconds_per_step"] == 4


@pytest.mark.parametrize("read", [Meter.since_last_log, Meter.total])
def test_paused_time_counts_nowhere(read):
    clock = Clock()
    meter = Meter(clock=clock)
    step(meter, clock, 2)
    with meter.pause():
        clock.now += 50
        with meter.pause():
            clock.now += 50
    step(meter, clock, 2)
    assert read(meter)["seconds_per_step"] == 2


def test_rates_can_be_read_inside_a_pause():
    clock = Clock()
    meter = Meter(clock=clock)
    step(meter, clock, 2)
    with meter.pause():
        clock.now += 50
        assert meter.total()["seconds_per_step"] == 2


def test_a_pause_ends_when_the_block_raises():
    clock = Clock()
    meter = Meter(clock=clock)
    with pytest.raises(RuntimeError), meter.pause():
        clock.now += 50
        raise RuntimeError
    step(meter, clock, 2)
    assert meter.total()["seconds_per_step"] == 2


def test_mfu_is_the_formula_over_the_peak_of_all_devices():
    clock = Clock()
    flops = ModelFlops(trained=1000, frozen=500, forward_only=0, attention=(AttentionLayer(8),))
    meter = Meter(flops, peak_flops=1e6, devices=2, clock=clock)
    step(meter, clock, 4)
    needed = (6 * 1000 + 4 * 500) * 300 + 6 * 8 * 22500
    assert meter.total()["mfu"] == pytest.approx(needed / 4 / 2e6)


@pytest.mark.parametrize("known", [{"peak_flops": 1e12}, {"flops": ModelFlops(1, 0, 0, ())}])
def test_mfu_is_absent_when_the_model_or_the_peak_is_unknown(known):
    clock = Clock()
    meter = Meter(**known, clock=clock)
    step(meter, clock, 1)
    assert "mfu" not in meter.total()


def test_no_steps_no_rates():
    assert Meter().total() == {}
    assert Meter().since_last_log() == {}


def test_batches_without_padding_have_a_share_of_zero():
    clock = Clock()
    meter = Meter(clock=clock)
    step(meter, clock, 1, padded=0)
    assert meter.total()["padding_share"] == 0


def test_steps_between_stop_and_go_on_count_for_nothing():
    clock = Clock()
    meter = Meter(clock=clock)
    step(meter, clock, 1)
    meter.stop()
    step(meter, clock, 50)
    assert meter.since_last_log()["seconds_per_step"] == 1
    step(meter, clock, 50)
    assert meter.since_last_log() == {}
    meter.go_on()
    step(meter, clock, 3)
    assert meter.since_last_log()["seconds_per_step"] == 3
    assert meter.total()["seconds_per_step"] == 2


def test_a_late_reading_counts_the_steps_up_to_its_lap():
    clock = Clock()
    meter = Meter(clock=clock)
    step(meter, clock, 2)
    lap = meter.lap()
    # The next step is queued while the first one still runs, for another second.
    step(meter, clock, 1)
    assert meter.since_last_log(lap)["seconds_per_step"] == 3
    step(meter, clock, 5)
    assert meter.since_last_log()["seconds_per_step"] == 2.5


def test_the_last_step_of_the_warm_up_is_known_before_it_is_added():
    clock = Clock()
    meter = Meter(warmup_steps=2, clock=clock)
    known = []
    for _ in range(3):
        known.append(meter.ends_warmup)
        step(meter, clock, 1)
    assert known == [False, True, False]
