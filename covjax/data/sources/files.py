"""Sources whose slices are files: what is known of them by their contents."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from covjax.data.contents import contents, digests, origin, prepared_dir
from covjax.data.settings import DataSettings
from covjax.data.sources.source import Slice, Source, fingerprint
from covjax.data.sources.unread import unused


def source_of_files(
    name: str,
    root: Path,
    config: DataSettings,
    slices: Mapping[str, Path],
    load: Callable[[int], Slice],
    *,
    others: Iterable[Path] = (),
    settings: Iterable[object] = (),
) -> Source:
    """Returns a source of one file for each slice.

    Args:
      name: of the source.
      root: the folder that it reads.
      config: the section `data` of a run.
      slices: {id: file}, in order.
      load: of a slice's place in that order, the slice.
      others: files that it reads besides, as masks and an index.
      settings: values of `config` that decide what it reads.

    Raises InputError naming a file that cannot be read.
    """
    used = [*slices.values(), *others]
    digest = digests(root, used, prepared_dir(config))
    return Source(
        name,
        tuple(slices),
        load,
        fingerprint([name, *settings, contents(root, digest)]),
        tuple(origin(digest[path]) for path in slices.values()),
        left_out=unused(root, used, name),
    )
