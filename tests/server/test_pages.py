import re

import pytest

from peatkeep.server.pages import commands

from .running import RunningServer


@pytest.mark.parametrize("place", ["/ui/", "/status/", "/sync/", "/help/", "/importer/"])
def test_every_page_leads_to_the_others_that_are_there(server: RunningServer, place: str) -> None:
    body = server.ask("GET", place).body.decode()
    mounted = server.service.world.config.prefixes
    links = re.findall("<a href='([^']*)'", body)
    assert links == [link for link in ("/ui/", "/status/", "/sync/", "/help/") if link in mounted]
    assert {link: server.ask("GET", link).status for link in links} == dict.fromkeys(links, 200)


def test_what_a_table_shows_is_escaped() -> None:
    assert "<script>" not in commands(("<script>", "x"), ("y", "<script>"))
