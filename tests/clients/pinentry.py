"""A pinentry that asks nobody: it answers by the lines of a file."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote

PINENTRY: Final = r"""#!/bin/sh
# Answers GETPIN by the lines of a file, one after the other; `cancel` is no passphrase.
echo "OK at your service"
while read -r line; do
    printf '%s\n' "$line" >>"$0.heard"
    case $line in
    GETPIN*)
        read -r said <"$0.lines"
        sed -i 1d "$0.lines"
        if [ "$said" = cancel ]; then
            echo "ERR 83886179 Operation cancelled <Pinentry>"
        else
            printf 'D %s\nOK\n' "$said"
        fi
        ;;
    *) echo OK ;;
    esac
done
"""


class Pinentry:
    """The program `pinentry` in a folder; with that folder in `PATH`, it is the machine's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.program = folder / "pinentry"
        self.program.write_text(PINENTRY)
        self.program.chmod(0o700)
        self.will_say()

    def will_say(self, *passphrases: str) -> None:
        """What it answers, in order."""
        lines = [each.replace("%", "%25") + "\n" for each in passphrases]
        self.program.with_name("pinentry.lines").write_text("".join(lines))

    @property
    def heard(self) -> list[str]:
        """What it was told."""
        file = self.program.with_name("pinentry.heard")
        return unquote(file.read_text()).splitlines() if file.exists() else []

    @property
    def times_asked(self) -> int:
        return sum(line.startswith("GETPIN") for line in self.heard)
