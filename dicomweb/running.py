"""``dicomweb run``: check, migrate, start everything, tell people where to go."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from dicomweb import demo as demonstration
from dicomweb import migrations, passwords
from dicomweb.settings import Settings, reachable_host
from dicomweb.supervisor import CannotStart, Supervisor, check_port, make_folders, only_instance, programs

__all__ = ["CannotStart", "run"]


def run(settings: Settings, ini: Path, *, demo: bool, say: Callable[[str], None]) -> None:
    """Run the application until SIGTERM or SIGINT. Raises CannotStart."""
    make_folders(settings)
    with only_instance(settings):
        check_port(settings["web.host"], settings["web.port"])
        try:
            new_password = passwords.ensure(settings)
        except passwords.PasswordRefused as error:
            raise CannotStart(str(error)) from None
        if new_password:
            say(f"The password is {new_password} (shown only now; `dicomweb password` sets another one).")
        migrations.upgrade(settings.database_url)
        if demo and not demonstration.drop_samples(settings):
            say(f"The sample images are already in {settings['watch.folders'][0]}.")
        supervisor = Supervisor(programs(settings, ini), say)
        supervisor.run(_Announcement(settings, say))


class _Announcement:
    """Tells where the application is, once, as soon as it answers."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._done = False

    def __call__(self) -> None:
        if self._done or not self._answers():
            return
        self._done = True
        settings = self._settings
        folders = ", ".join(str(folder) for folder in settings["watch.folders"])
        self._say(f"DICOM Database runs at {address(settings)} and watches {folders}")
        if not settings["lockdown.mode"]:
            self._say("The lockdown is off: nobody is asked for a password.")
        self._say("Ctrl-C stops it.")

    def _answers(self) -> bool:
        try:
            socket.create_connection((reachable_host(self._settings["web.host"]), self._settings["web.port"]), timeout=0.5).close()
        except OSError:
            return False
        return True


def address(settings: Settings) -> str:
    """Give the address that people open."""
    host = settings["web.host"]
    return f"http://{f'[{host}]' if ':' in host else host}:{settings['web.port']}"
