"""`run.compile`: the network is compiled whole, and once for all time steps."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from bidiffsr_cli.networks.systems import SYSTEMS
from bidiffsr_cli.training.config_files import changed, of_system
from bidiffsr_cli.training.trainer import Trainer

from .support import CPU

QUICK = "bi-diffsr"
TABLE_2 = [system.name for system in SYSTEMS if system.table == "2"]


@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*instantiated")  # by Dynamo itself
@pytest.mark.parametrize(
    "system", [pytest.param(name, marks=[] if name == QUICK else pytest.mark.slow) for name in TABLE_2]
)
def test_one_compilation_serves_every_step(config, sampler, monkeypatch, system):
    counter, compile_by = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compile_by(network, backend=counter))
    torch._dynamo.reset()
    with torch.compiler.config.patch(dynamic_sources=""):  # and back to it
        trainer = Trainer(of_system(changed(config, ["run.compile=true", "data.batch=2"]), system), sampler, CPU)
        for _ in range(8):  # time steps of several groups, at both scales
            trainer.step()
    assert counter.frame_count == 1
