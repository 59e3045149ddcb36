"""Takes a few steps as one of several processes: `hosts.py ADDRESS PROCESSES PROCESS OUT.npz`."""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from covjax.data.loader import train_batches
from covjax.parallel import pmap_eval, pmap_train, replicate, shard, sum_over_devices, unshard

SLICES = 16
BATCH = 8


class Reader:
    """Slices of four numbers each."""

    def __len__(self):
        return SLICES

    def __getitem__(self, position):
        values = np.random.default_rng(int(position)).normal(size=(2, 2)).astype(np.float32)
        return {"image": values, "index": int(position)}


def train_step(state, batch):
    def loss(weights):
        return ((batch["image"].sum((1, 2)) @ jnp.ones(len(batch["image"])) - weights) ** 2).mean()

    value, gradient = sum_over_devices(jax.value_and_grad(loss)(state["weights"]))
    return {"weights": state["weights"] - 0.01 * gradient, "step": state["step"] + 1}, value


def eval_step(state, batch):
    return {"sum": batch["image"].sum((1, 2)) + state["weights"].sum()}


def main():
    address, processes, process, out = sys.argv[1:]
    if int(processes) > 1:
        jax.distributed.initialize(address, int(processes), int(process))
    warnings.simplefilter("error")  # among them: a donated argument required resharding
    step = pmap_train(train_step)
    evaluate = pmap_eval(eval_step)
    state = replicate({"weights": jnp.arange(3.0), "step": jnp.int32(0)})
    losses = []
    places = {"process": jax.process_index(), "processes": jax.process_count()}
    for batch in train_batches(Reader(), batch_size=BATCH, seed=0, epoch=0, **places):
        before = state
        state, loss = step(state, shard({"image": batch["image"]}))
        assert before["weights"].is_deleted()
        losses.append(float(loss))
    rows = unshard(evaluate(state, shard({"image": batch["image"]})))
    np.savez(
        out,
        devices=[jax.device_count(), jax.local_device_count()],
        weights=state["weights"],
        losses=losses,
        rows=rows["sum"],
    )


if __name__ == "__main__":
    main()
