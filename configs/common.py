"""What every configuration shares: one function per section. Fields are explained where they
stand.
"""

from ml_collections import ConfigDict

from covjax.errors import InputError, unknown


def arguments(given: str, **defaults: str) -> dict[str, str]:
    """Reads what follows the colon in --config=FILE:name=value,name=value. Raises InputError for
    another name.
    """
    values = dict(defaults)
    for part in filter(None, map(str.strip, given.split(","))):
        name, equals, value = part.partition("=")
        if name not in defaults:
            raise unknown("argument", name, defaults)
        if not equals or not value:
            raise InputError(f"argument {name}: has no value, write {name}={defaults[name]}")
        values[name] = value
    return values


def run() -> ConfigDict:
    """A run: where the slices come from, how they are split. Stages are added by each
    configuration.
    """
    return ConfigDict(
        dict(
            seed=0,
            # on NVIDIA GPUs: nvidia_fast, or nvidia_deterministic for bit-identical resumption
            xla_flags="none",
            data=dict(
                # phantom (synthetic), your own: folder (pictures), nifti, dicom; public: prlab21
                # (the paper's slices), medseg1, medseg2, zenodo20, mosmed (python -m
                # covjax data prints where to get them)
                source="phantom",
                # of prlab21: ct, full (margin labelled infected, as released), ignore_margin
                frame="ct",
                path="",  # folder of the slices; phantom needs none
                patient_column="patient",  # of index.csv in a folder: what tells whose slice it is
                # instead: a regular expression that finds the patient in a name
                patient_pattern="",
                show_patients=False,  # of your own folders: identifiers as they are, not pseudonyms
                prepared_dir="",  # where prepared slices are kept; empty: the user's cache
                cache=True,  # keep decoded slices in memory, as uint8, up to 4 GB of a part
                # of grey levels in 16-bit pictures: 12, 16, or 0: 16, refused where they hardly use
                # them
                bits=0,
                # above 0: a mask pixel above it is infected (masks saved as JPEG: 127)
                mask_threshold=0,
                # Of masks with several: "1:infected,2:infected,3:background", or with names that
                # are kept apart, "1:ground_glass,2:consolidation,3:ignore"; empty: above 0 is
                # infected.
                classes="",
                # Of masks of scans: file (they lie where their file says, which must agree with
                # their scan), or image (they are stored voxel by voxel as their scan, whatever
                # their file says).
                mask_geometry="file",
                # Of scans and 16-bit pictures: hu, 8bit, hu_plus_1024, hu_plus_32768, hu_signed;
                # auto: by the range.
                intensity="auto",
                window="lung",  # brings HU to 0..255: lung, mediastinum, or "centre,width"
                # of scans: mm per pixel to which slices are brought, in training and use; 0: as
                # stored
                spacing=0.0,
                lung_crop=False,  # crop slices to the lungs, in training and use
                phantom=dict(patients=24, slices_per_patient=12, size=304, seed=0),
            ),
            # by: patient, slice, block, source, held_out, file; shares of train, val, test. With
            # folds above 0, test is number `fold` of them. path: of by=file, the splits.json of
            # another run, or a CSV (patient or id, part)
            split=dict(by="patient", shares=(0.64, 0.16, 0.2), folds=0, fold=0, path=""),
        )
    )


def classifier() -> ConfigDict:
    """CoV-CTNet on enhanced slices, trained as the paper says, but for the rate: the paper's 1e-3
    diverges.
    """
    return _stage(
        learning_rate=1e-4,
        model=dict(name="cov_ctnet", head_relu=False),
        input=dict(size=(82, 82), channels=1, enhance="paper_text"),
        # above 0: pairs of slices and their labels mixed, by weights from Beta(mixup, mixup)
        augment=dict(mixup=0.0),
        loss=dict(name="cross_entropy"),  # or focal
        threshold=0.5,  # slices with this probability of infection or more are called infected
        # Chosen on the validation part instead: youden, f1, mcc, or as sensitivity:0.95,
        # specificity:0.95
        threshold_rule="fixed",
        # or temperature: fitted on the validation part, probabilities as often right as they say
        calibration="none",
    )


def segmenter() -> ConfigDict:
    """CoV-RASeg on plain slices, trained as the paper says, but for the linear head: the released
    one collapses.
    """
    return _stage(
        learning_rate=1e-3,
        model=dict(
            name="cov_raseg",
            features=64,
            final="linear",  # or relu (as released), sigmoid2x2
            encoder_smoothing="avg",  # at stride 1: none, avg, max, .. (covjax.pooling.SMOOTHINGS)
            encoder_pooling="max",  # halves the sides: max, avg, haar, .. (covjax.pooling.POOLINGS)
            # that fits (covjax.pooling.FITS): indices, nearest, haar, ..
            decoder_unpooling="indices",
            decoder_smoothing="avg",
        ),
        input=dict(size=(304, 304), channels=3, enhance="none"),
        augment=dict(),
        loss=dict(
            name="cross_entropy",  # or focal, dice, generalized_dice, tversky, ce_dice
            tversky_alpha=0.3,  # what a pixel wrongly called infected weighs
            tversky_beta=0.7,  # what a missed pixel weighs
            # pixels added above and below, so that overlap losses are defined on empty masks
            smooth=1.0,
        ),
        slices="infected",  # train and score on the infected slices, or on all
    )


def _stage(*, input: dict, augment: dict, loss: dict, learning_rate: float, **fields) -> ConfigDict:
    return ConfigDict(
        dict(
            **fields,
            input=dict(
                # size of the network's input, channels, enhancement preset (none: plain slice)
                **input,
                # what slices are brought to before enhancement (with none: to size)
                slice_size=(304, 304),
                gain="orthonormal",  # or unit: LL is halved per level, nothing saturates
                # zero_center, standardize, or pretrained: what published weights expect; auto:
                # pretrained with such weights, else zero_center. Grey slices are repeated over the
                # channels.
                normalize="auto",
            ),
            init=dict(
                # or package (what a pip extra installs), or a weight file: .safetensors, .pth, .h5
                weights="none",
                # instead: workdir of an earlier run of the same network, whose best checkpoint is
                # gone on from
                run="",
                skip="",  # names in the file to leave as initialised: patterns separated by commas
                # first convolution for one channel: colours summed; fresh: as initialised
                first="sum",
            ),
            # each sample up to these, image and mask together; look at it by
            # --show_augmentation=OUT.png
            augment=dict(
                **augment,
                flip=True,
                rotation=0.0,  # +- degrees
                scale=0.0,  # +- share of the size
                translation=0.0,  # +- share of the side
                shear=0.0,  # +- degrees
                elastic=0.0,  # +- share of the side by which a coarse grid is bent, at most 0.12
                intensity=0.0,  # +- share of contrast and brightness
                gamma=0.0,  # exponents 1 / (1 + gamma) to 1 + gamma
                noise=0.0,  # standard deviation, as a share of 255
                blur=0.0,  # standard deviation, in pixels
                # share of height and width of a window that is blanked; the mask is 255 (ignored)
                # there
                cutout=0.0,
            ),
            loss=dict(
                **loss,
                # Of cross_entropy, focal and ce_dice, from counts of the training part: none,
                # median_frequency, inverse_frequency, sqrt_inverse_frequency, or the weights,
                # background first: "0.5,2"
                class_weights="none",
                focal_gamma=2.0,  # of focal: 0 is cross entropy
            ),
            optimizer=dict(
                name="sgd",  # or adamw
                learning_rate=learning_rate,
                schedule="constant",  # or cosine
                warmup_epochs=0.0,
                momentum=0.95,
                weight_decay=1e-4,
                clip_norm=0.0,  # 0: no clipping
                ema=0.0,  # above 0: evaluate with this moving average of the parameters
                # Parameters that do not train, by patterns over their paths, the last that fits
                # wins: "*,!fc3/*" is all but fc3. A BatchNorm layer whose scale is frozen uses and
                # keeps its statistics.
                freeze="",
                # learning rates of parts, as multiples: "stem/*:0.1,stage1*:0.3", the first that
                # fits wins
                rates="",
            ),
            # statistics for use: over the training part, as released; or running
            batch_norm="training_set",
            batch_size=8,
            epochs=30,
            dtype="float32",  # or bfloat16
            # train with half the activation memory, a quarter slower (on a CPU: from jax 0.12)
            remat=False,
            checkpoint_every=200,  # steps, besides every end of an epoch; 0: only there
        )
    )
