"""
Variables: settings as the environment has them.
"""

from holdfast.runtime.config import Settings
from holdfast.runtime.errors import SettingsError
from tests.fuzz.draw import Draw

_FIELDS = Settings.__struct_fields__
_VALUES = (
    "",
    "0",
    "1",
    "-1",
    "16",
    "500",
    "1e3",
    "1_000",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "true",
    "fsync",
    "replicated(2)",
    "replicated(100)",
    "memory://",
    "redis://localhost:6379/0",
    "redis://[::1",
    "amqp://guest:guest@localhost:99999999/",
    "unix:///tmp/redis.sock",
    "holdfast",
    "\u00b2",
    "\u0661\u0662",
    " 7 ",
    "9" * 5_000,
)

SEEDS = [
    bytes((1, field, value)) for field in range(0, len(_FIELDS), 3) for value in range(0, len(_VALUES), 5)
]


def check(data: bytes) -> None:
    """
    Settings are what the environment says, and make the same environment again, or SettingsError names the variable.
    """
    draw = Draw(data)
    environment: dict[str, str] = {}
    for _ in range(draw.below(4)):
        field = draw.pick(_FIELDS) if draw.below(16) else draw.text(12)
        environment[f"HOLDFAST_{field.upper()}"] = draw.pick((*_VALUES, draw.text()))
    try:
        settings = Settings.from_environment(environment)
    except SettingsError as error:
        assert "HOLDFAST_" in str(error)
        return
    assert settings == Settings.from_environment(settings.to_environment())
    for name in _FIELDS:
        value = getattr(settings, name)
        if isinstance(value, float):
            assert 0 <= value < float("inf"), name
    assert str(settings.durability)
    assert settings.transport
