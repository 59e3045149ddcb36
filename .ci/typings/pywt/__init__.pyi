"""What covjax uses of PyWavelets, which has no type annotations and compiles its classes."""

class Wavelet:
    name: str
    dec_len: int
    filter_bank: tuple[list[float], list[float], list[float], list[float]]
    def __init__(self, name: str) -> None: ...

def wavelist(family: str | None = None, kind: str = "all") -> list[str]: ...
