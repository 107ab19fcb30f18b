"""What the sections of the manifest are made of: types of values, and fields that say what a change of them costs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from offgridd.core.desired import MinRate
from offgridd.manifest import values

CHANGE: Final = "x-offgridd-change"  # in the JSON schema: what an edit of the field costs
MAX_DRAIN_HOURS: Final = 168
MAX_HOURS: Final = 24 * 366
MAX_OVER: Final = 3600  # seconds


def _read_size(value: object) -> object:
    try:
        return values.size(value) if isinstance(value, str) else value
    except ValueError:
        raise PydanticCustomError("WrongType", values.WANTED_SIZE) from None


def _read_share(value: object) -> object:
    """Text only where it is a share."""
    if isinstance(value, str) and values.matches(values.PERCENT, value):
        return value
    try:
        read = values.size(value) if isinstance(value, str) else value
    except ValueError:
        read = None
    if type(read) is not int:
        raise PydanticCustomError("WrongType", values.WANTED_SHARE)
    if not 1 <= read < 2**63:
        raise PydanticCustomError("InvalidValue", values.WANTED_SHARE)
    return read


def _read_duration(value: object, most: int = MAX_DRAIN_HOURS) -> float:
    try:
        seconds = values.duration(value if isinstance(value, str) else "")
    except ValueError:
        raise PydanticCustomError("WrongType", values.WANTED_DURATION) from None
    if seconds > most * 3600:
        raise PydanticCustomError("InvalidValue", f"a duration of at most {most}h")
    return seconds


def _read_long_duration(value: object) -> float:
    return _read_duration(value, MAX_HOURS)


def _read_pause(value: object) -> float:
    seconds = _read_long_duration(value)
    if 0 < seconds < 1:
        raise PydanticCustomError("InvalidValue", "a duration of at least 1s, or 0s for never")
    return seconds


def _read_interval(value: object) -> float:
    seconds = _read_duration(value)
    if seconds < 1:
        raise PydanticCustomError("InvalidValue", "a duration of at least 1s")
    return seconds


def _read_percent(value: object) -> float:
    if not isinstance(value, str) or not values.matches(values.PERCENT, value):
        raise PydanticCustomError("WrongType", "a share such as 10%, from 1% to 100%")
    return int(value.removesuffix("%")) / 100


def _read_min_rate(value: object) -> MinRate:
    try:
        rate, over = values.min_rate(value if isinstance(value, str) else "")
    except ValueError:
        raise PydanticCustomError("WrongType", values.WANTED_MIN_RATE) from None
    if not 1 <= over <= MAX_OVER:
        raise PydanticCustomError("InvalidValue", f"a rate over 1s to {MAX_OVER // 60}m")
    return MinRate(rate, over)


_SIZE_SCHEMA: Final = {"anyOf": [{"type": "string", "pattern": values.SIZE}, {"type": "integer", "minimum": 1}]}
_ANY_SIZE_SCHEMA: Final = {"anyOf": [{"type": "string", "pattern": values.SIZE}, {"type": "integer", "minimum": 0}]}
Size = Annotated[int, Field(ge=1, le=2**63 - 1), BeforeValidator(_read_size), WithJsonSchema(_SIZE_SCHEMA)]
_SHARE_SCHEMA: Final = {"anyOf": [{"type": "string", "pattern": values.PERCENT}, *_SIZE_SCHEMA["anyOf"]]}
SizeOrShare = Annotated[int | str, BeforeValidator(_read_share), WithJsonSchema(_SHARE_SCHEMA)]
Gpu = Annotated[str, Field(pattern=values.GPU)]
Duration = Annotated[
    float,
    BeforeValidator(lambda value: _read_duration(value)),
    WithJsonSchema({"type": "string", "pattern": values.DURATION}),
]
LongDuration = Annotated[
    float,
    BeforeValidator(_read_long_duration),
    WithJsonSchema({"type": "string", "pattern": values.DURATION}),
]
Pause = Annotated[
    float,
    BeforeValidator(_read_pause),
    WithJsonSchema({"type": "string", "pattern": values.DURATION}),
]
Interval = Annotated[
    float,
    BeforeValidator(_read_interval),
    WithJsonSchema({"type": "string", "pattern": values.DURATION}),
]

Percent = Annotated[
    float,
    BeforeValidator(_read_percent),
    WithJsonSchema({"type": "string", "pattern": values.PERCENT}),
]
CacheSize = Annotated[int, Field(ge=0, le=2**63 - 1), BeforeValidator(_read_size), WithJsonSchema(_ANY_SIZE_SCHEMA)]
_QUANT_SCHEMA: Final = {"type": "string", "pattern": values.QUANT}
Quants = Annotated[
    list[Annotated[str, Field(pattern=values.QUANT)]],
    Field(min_length=1, max_length=16),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema(
        {"anyOf": [_QUANT_SCHEMA, {"type": "array", "items": _QUANT_SCHEMA, "minItems": 1, "maxItems": 16}]}
    ),
]
LeastRate = Annotated[
    MinRate,
    BeforeValidator(_read_min_rate),
    WithJsonSchema({"type": "string", "pattern": values.MIN_RATE}),
]
Endpoint = Annotated[str, AfterValidator(values.endpoint)]
WebAddress = Annotated[str, AfterValidator(values.web_address)]
Address = Annotated[str, AfterValidator(lambda text: str(values.address(text)))]
Host = Annotated[str, AfterValidator(values.host_name)]
Name = Annotated[str, Field(pattern=values.NAME)]
Alias = Annotated[str, Field(pattern=values.ALIAS)]
KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
Share = Annotated[float, Field(ge=0, le=1_000_000)]
Dimension = Annotated[int, Field(ge=1, le=1_000_000)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


def _field(change: str, default: Any, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={CHANGE: change}, **limits)


def live(default: Any, description: str, **limits: Any) -> Any:
    """Takes effect at once, on the next request."""
    return _field("live", default, description, **limits)


def reload(default: Any, description: str, **limits: Any) -> Any:
    """Needs a new worker for the model."""
    return _field("reload", default, description, **limits)


def verify(default: Any, description: str, **limits: Any) -> Any:
    """Has the file found and hashed again; the worker changes when the bytes do."""
    return _field("verify", default, description, **limits)


class Section(BaseModel):
    """A map of the manifest. Keys that it does not know are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    not_yet: ClassVar[frozenset[str]] = frozenset()

    def given(self) -> dict[str, Any]:
        """What the file says, without defaults; lists as tuples."""
        found = ((name, getattr(self, name)) for name in self.model_fields_set)
        return {name: tuple(value) if isinstance(value, list) else value for name, value in found}
