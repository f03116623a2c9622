"""Every method of the paper's table 2 learns, and its BatchNorm is measured on the averaged weights."""

from __future__ import annotations

import pytest
import torch

from bidiffsr_cli.networks.binary_conv import BatchNorm, BatchNormConv
from bidiffsr_cli.networks.systems import SYSTEMS
from bidiffsr_cli.training.config import TrainConfig
from bidiffsr_cli.training.config_files import changed, of_system
from bidiffsr_cli.training.crops import Crops, CropSampler
from bidiffsr_cli.training.dataset import Dataset
from bidiffsr_cli.training.objective import Objective
from bidiffsr_cli.training.trainer import Trainer

from .support import CPU, equal, weights_of

TABLE_2 = [system.name for system in SYSTEMS if system.table == "2"]


class OneBatch:
    """A sampler that draws the same crops for ever."""

    def __init__(self, sampler: CropSampler) -> None:
        self.crops = sampler.draw(2, torch.Generator().manual_seed(0))

    def draw(self, scale: int, generator: torch.Generator, upsampler: None = None) -> Crops:
        return self.crops


def trainer_of(config: TrainConfig, sampler: CropSampler | OneBatch, system: str, *changes: str) -> Trainer:
    return Trainer(changed(of_system(config, system), changes), sampler, CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        *(pytest.param(name, [], marks=[] if name == "bi-diffsr" else pytest.mark.slow) for name in TABLE_2),
        *(
            pytest.param("bnn", [f"model.network.method={method}"], marks=pytest.mark.slow)
            for method in ("dorefa_01", "xnor_map")  # which cannot be packed
        ),
    ],
)
def test_it_learns_one_batch(config: TrainConfig, sampler: CropSampler, system: str, changes: list[str]) -> None:
    one_kind = ["model.scales=[2]", "loss.last=1.0", "loss.grid=0.0", "run.iterations=40", "optimizer.lr=2e-2"]
    trainer = trainer_of(config, OneBatch(sampler), system, *one_kind, *changes)
    before = weights_of(trainer)
    losses: list[float] = []
    trainer.run(lambda figures: losses.append(figures["loss"]), lambda: False)
    assert len(losses) == 20 and losses[-1] < 0.6 * losses[0], losses
    assert all(not torch.equal(before[name], now) for name, now in weights_of(trainer).items())


def test_statistics_are_measured_on_the_averaged_weights(config: TrainConfig, sampler: CropSampler) -> None:
    trainer = trainer_of(config, sampler, "bnn")
    trainer.run(lambda _: None, lambda: False)
    states = [generator.get_state() for generator in (trainer.generator, trainer.noise_generator)]
    average = trainer.average()
    assert all(name in average for name in trainer.network.state_dict())
    assert any(bool((value != 1).any()) for name, value in average.items() if name.endswith("norm.variance"))
    assert equal(average, trainer.average())  # on the same batches every time
    assert all(
        torch.equal(state, generator.get_state())
        for state, generator in zip(states, (trainer.generator, trainer.noise_generator), strict=True)
    ), "and the run's own batches stay what they are"
    own = [module for module in trainer.network.modules() if isinstance(module, BatchNorm)]
    assert all(torch.equal(norm.variance, torch.ones_like(norm.variance)) for norm in own)


def test_every_system_is_trained_at_the_same_time_steps(config: TrainConfig) -> None:
    """Else a comparison would be one of time steps: K says what a network tells apart, not what it is asked."""

    def drawn(system: str) -> list[list[int]]:
        objective, generator = Objective(of_system(config, system).model, config.loss, CPU), torch.Generator()
        generator.manual_seed(0)
        return [t.tolist() for _ in range(300) for _, t in objective.draw_times(2, generator)]

    expected = drawn("bi-diffsr")
    assert {399, 799, 1199, 1599, 1999} <= {t for times in expected for t in times}
    for system in ("sr3", "bbcu", "a-cs", "c-in", "d-1"):
        assert drawn(system) == expected
    k2 = drawn("d-2")  # whose groups cut the middle segment: its uniform t are others, as many in each segment
    assert sum(times == [1999, 1999] for times in k2) == sum(times == [1999, 1999] for times in expected)
    assert all(times[0] // 1000 == times[1] // 1000 for times in k2)


@pytest.mark.parametrize("system", ["bnn", "irnet"])
def test_threads_change_last_bits_alone(config: TrainConfig, pictures: Dataset, system: str) -> None:
    large = changed(config, ["data.batch=32"])
    batches = CropSampler(pictures, large, CPU)
    one, two = (Trainer(of_system(large, system), batches, CPU, threads=threads) for threads in (1, 3))
    for trainer in (one, two):
        trainer.step()
    for name, weight in weights_of(one).items():
        torch.testing.assert_close(weights_of(two)[name], weight, rtol=1e-3, atol=1e-5)


def test_irnet_is_annealed_by_the_part_of_the_run_that_is_over(config: TrainConfig, sampler: CropSampler) -> None:
    trainer = trainer_of(config, sampler, "irnet")
    conv = next(module for module in trainer.network.modules() if isinstance(module, BatchNormConv))
    seen = []
    while trainer.part_done() < 1:
        trainer.step()
        seen.append(float(conv.ede[0]))
    expected = [1e-3 * 10 ** (4 * step / 6) for step in range(6)]
    assert seen == pytest.approx(expected, rel=1e-5)
