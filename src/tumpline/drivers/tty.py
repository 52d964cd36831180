"""Serial devices: opened raw, eight bits, for one program alone."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import termios
from typing import Final

from tumpline.errors import ConfigError, TumplineError

SPEEDS: Final = {
    int(name[1:]): getattr(termios, name)
    for name in dir(termios)
    if name[0] == "B" and name[1:].isdigit() and name != "B0"
}


class DeviceGoneError(TumplineError):
    """A serial device is not there: unplugged, or not plugged in yet."""


def open_tty(device: str, baudrate: int, *, flow_control: bool = False) -> int:
    """A descriptor that never blocks. Raises: DeviceGoneError, ConfigError, each with the remedy."""
    if baudrate not in SPEEDS:
        known = ", ".join(str(speed) for speed in sorted(SPEEDS) if speed >= 9600)
        raise ConfigError(f"a serial line cannot run at {baudrate} Bd; write one of: {known}")
    try:
        fd = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot_open(device, error) from None
    try:
        _take(device, fd)
        _set_raw(fd, SPEEDS[baudrate], flow_control=flow_control)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError | termios.error):  # pulled out while it was opened
            raise DeviceGoneError(
                f"serial device {device} cannot be set up ({error.args[-1]}); plug it in again"
            ) from None
        raise
    return fd


def close_tty(fd: int) -> None:
    """At once: without the first call the kernel would wait for a line that takes nothing, half a minute long."""
    with contextlib.suppress(termios.error):  # it may be unplugged
        termios.tcflush(fd, termios.TCIOFLUSH)
    os.close(fd)


def _cannot_open(device: str, error: OSError) -> TumplineError:
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO):
        return DeviceGoneError(f"serial device {device} is not there; plug the probe in, or name another device")
    if error.errno == errno.EACCES:
        return ConfigError(
            f"serial device {device} cannot be opened: {error.strerror}; join its group (usually: dialout), or be root"
        )
    if error.errno == errno.EBUSY:
        return _held(device)
    return ConfigError(f"serial device {device} cannot be opened: {error.strerror}; name a device such as /dev/ttyUSB0")


def _held(device: str) -> TumplineError:
    return ConfigError(f"serial device {device} is in use by another program; end it (fuser {device} names it)")


def _take(device: str, fd: int) -> None:
    """Two readers of one line would each get some of the octets. The lock is for root too, whom TIOCEXCL does not stop."""
    if not os.isatty(fd):
        raise ConfigError(f"{device} is no serial device; name one such as /dev/ttyUSB0")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise _held(device) from None
    fcntl.ioctl(fd, termios.TIOCEXCL)


def _set_raw(fd: int, speed: int, *, flow_control: bool) -> None:
    """Octets as they are; without HUPCL, so that closing does not pull DTR and with it, on many boards, the reset line."""
    controls = termios.tcgetattr(fd)[6]
    controls[termios.VMIN], controls[termios.VTIME] = 1, 0  # with 0, no data would read like the end
    cflag = termios.CS8 | termios.CREAD | termios.CLOCAL | (termios.CRTSCTS if flow_control else 0)
    termios.tcsetattr(fd, termios.TCSAFLUSH, [0, 0, cflag, 0, speed, speed, controls])
