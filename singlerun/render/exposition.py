"""Metrics in the two text formats that Prometheus reads, its own and OpenMetrics.

See https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

GAUGE, COUNTER, HISTOGRAM, INFO = "gauge", "counter", "histogram", "info"
PREFIX = "singlerun_"
CREATED = "_created"
"""Since when a counter or histogram counts: only OpenMetrics has it."""


class Family:
    """A metric, and its samples.

    Attributes:
        name: without PREFIX, and without the ending that its samples have by their kind.
        kind: GAUGE, COUNTER, HISTOGRAM or INFO.
        about: one sentence.
        created_ns: since when a counter or histogram counts, in nanoseconds since the epoch.
    """

    def __init__(self, name: str, kind: str, about: str, created_ns: int = 0) -> None:
        self.name, self.kind, self.about, self.created_ns = PREFIX + name, kind, about, created_ns
        self._samples: list[tuple[str, Mapping[str, str], str]] = []

    def add(self, value: str, **labels: str) -> None:
        """Add a sample."""
        ending = {COUNTER: "_total", INFO: "_info"}.get(self.kind, "")
        self._samples.append((ending, labels, value))
        if self.kind == COUNTER:
            self._samples.append((CREATED, labels, seconds(self.created_ns)))

    def add_histogram(
        self, bounds: "Sequence[float]", counts: "Sequence[int]", total: str, **labels: str
    ) -> None:
        """Add a histogram: how many lie up to each bound but above the one before, and their sum.

        The last count is of those above all bounds.
        """
        so_far = 0
        for bound, count in zip((*bounds, None), counts, strict=True):
            so_far += count
            le = "+Inf" if bound is None else f"{float(bound)}"
            self._samples.append(("_bucket", {**labels, "le": le}, str(so_far)))
        self._samples += [("_sum", labels, total), ("_count", labels, str(so_far))]
        self._samples.append((CREATED, labels, seconds(self.created_ns)))

    def lines(self, *, openmetrics: bool) -> "Iterator[str]":
        """Yield its lines; none if it has no sample."""
        if not self._samples:
            return
        name, kind = self.name, self.kind
        if not openmetrics:
            name += {COUNTER: "_total", INFO: "_info"}.get(kind, "")
            kind = GAUGE if kind == INFO else kind
        yield f"# HELP {name} {self.about}"
        yield f"# TYPE {name} {kind}"
        for unit in ("seconds", "bytes") if openmetrics else ():
            if name.endswith(f"_{unit}"):
                yield f"# UNIT {name} {unit}"
        for ending, labels, value in self._samples:
            if openmetrics or ending != CREATED:
                yield f"{self.name}{ending}{_labels(labels)} {value}"


def text(families: "Iterable[Family]", *, openmetrics: bool) -> bytes:
    """Return metrics as a scraper reads them."""
    lines = [line for family in families for line in family.lines(openmetrics=openmetrics)]
    if openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode()


def seconds(nanoseconds: int) -> str:
    """Return nanoseconds as seconds, to the microsecond and without a loss by rounding."""
    whole, rest = divmod(nanoseconds, 10**9)
    return f"{whole}.{rest // 1000:06}"


def values_of(names: "Iterable[bytes]") -> dict[bytes, str]:
    r"""Return the value of a label for each name, no two of them the same.

    A value is text: bytes of a name that are none show as ``\xNN``. Where a name is that text
    already, a number is appended.
    """
    found: dict[bytes, str] = {}
    taken: set[str] = set()
    plain = {name: name.decode("utf-8", "backslashreplace") for name in names}
    # Names that are text come first: they are to have their own.
    for name in sorted(plain, key=lambda name: (plain[name].encode() != name, name)):
        value, number = plain[name], 1
        while value in taken:
            number += 1
            value = f"{plain[name]} ({number})"
        taken.add(value)
        found[name] = value
    return found


def _labels(labels: "Mapping[str, str]") -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
