"""Keras' Xception: its layers in the order in which it makes them, and files of their weights by
h5py.
"""

import io

import numpy as np

# Layer name, kind, what it turns into what. Residual convolutions have no names of their own.
BLOCKS = {2: (64, 128), 3: (128, 256), 4: (256, 728), 13: (728, 1024)}


def layers():
    """Yields (layer, kind, channels in, channels out) of all layers with weights; "" for layers
    without a name.
    """
    yield from [("block1_conv1", "conv3", 3, 32), ("block1_conv1_bn", "norm", 32, 32)]
    yield from [("block1_conv2", "conv3", 32, 64), ("block1_conv2_bn", "norm", 64, 64)]
    for block in range(2, 15):
        if block in BLOCKS:
            first, last = BLOCKS[block]
            yield from [("", "conv1", first, last), ("", "norm", last, last)]
        if block == 14:
            sizes = [(1024, 1536), (1536, 2048)]
        elif block == 13:
            sizes = [(728, 728), (728, 1024)]
        else:
            sizes = [(first, last), (last, last)] if block in BLOCKS else [(728, 728)] * 3
        for k, (before, after) in enumerate(sizes, 1):
            yield f"block{block}_sepconv{k}", "separable", before, after
            yield f"block{block}_sepconv{k}_bn", "norm", after, after
    yield "predictions", "dense", 2048, 1000


def arrays(kind, before, after, old=False):
    """Name and shape of each array of a layer, as Keras 2 and 3 or (`old`) Keras 1 name them."""
    names = {
        "conv3": {"W" if old else "kernel": (3, 3, before, after)},
        "conv1": {"W" if old else "kernel": (1, 1, before, after)},
        "separable": {
            "depthwise_kernel": (3, 3, before, 1),
            "pointwise_kernel": (1, 1, before, after),
        },
        "dense": {"W" if old else "kernel": (before, after), "b" if old else "bias": (after,)},
        "norm": dict.fromkeys(
            ("gamma", "beta", "running_mean", "running_std")
            if old
            else ("gamma", "beta", "moving_mean", "moving_variance"),
            (after,),
        ),
    }
    return names[kind]


def keras_file(values, *, style="keras2", top=True):
    """The file of a network whose arrays are `values(layer, number, leaf, shape)`; number counts
    unnamed layers.

    style: keras2 (layer/layer/kernel:0), keras1 (layer/layer_W), keras3 (unnamed layers begin
    without a number), model (as keras2, in a file of the whole model).
    """
    import h5py

    out = io.BytesIO()
    numbers = {"conv1": 0, "norm": 0}
    with h5py.File(out, "w") as file:
        root = file.create_group("model_weights") if style == "model" else file
        for layer, kind, before, after in layers():
            if layer == "predictions" and not top:
                continue
            number = None
            if not layer:
                number = numbers[kind]
                numbers[kind] += 1
                layer = {
                    "keras1": {"conv1": "convolution2d", "norm": "batchnormalization"},
                }.get(style, {"conv1": "conv2d", "norm": "batch_normalization"})[kind]
                # Within one session Keras goes on counting, so that numbers may start anywhere.
                offset = {"keras3": 0, "model": 9}.get(style, 1)
                layer += f"_{number + offset}" if number + offset else ""
            old = style == "keras1"
            for name, shape in arrays(kind, before, after, old).items():
                path = f"{layer}/{layer}_{name}" if old else f"{layer}/{layer}/{name}:0"
                root[path] = values(layer if number is None else "", number, name, shape)
        root.attrs["layer_names"] = np.array([b"input_1"])
    return out.getvalue()
