"""`pk`: everything that is neither putting nor getting, and a door to both."""

import click

from .common import PK, LazyGroup, end, global_flags, run

MODES = {
    "init": ("initialising:init", "Make a key and a client configuration."),
    "put": ("passing:put", "Run pk-put."),
    "get": ("passing:get", "Run pk-get."),
    "list": ("listing:list_blobs", "List the blobs of a server."),
    "sync": ("syncing:sync", "Copy missing blobs from one store to another."),
    "index": ("syncing:index", "Copy missing blobs to the index of a server."),
    "describe": ("searching:describe", "Show what the index knows of blobs."),
    "claims": ("searching:claims", "Show the claims on a permanode."),
    "search": ("searching:search", "Search, by expression or constraint."),
    "searchdoc": ("searching:searchdoc", "Tell what a search expression can say."),
    "biggest": ("searching:biggest", "List the directories with the most in them."),
    "complete": ("searching:complete", "List attributes or values that begin so."),
    "named-search-get": ("naming:named_search_get", "Show a named search."),
    "named-search-set": ("naming:named_search_set", "Name a search."),
    "discovery": ("about:discovery", "Show what a server says of itself."),
    "whoami": ("about:whoami", "Show the identity that signs here."),
    "doctor": ("doctor:doctor", "Check configuration, key, server and caches."),
    "config": ("configuration:config", "Check or show the server's configuration."),
    "dumpconfig": ("configuration:dumpconfig", "Show the low-level server configuration."),
    "dbinit": ("databases:dbinit", "Make the tables of sorted rows in a database."),
    "env": ("configuration:env", "Show where files are looked for."),
    "packblobs": ("tidying:packblobs", "Pack files that lie loose into zips."),
    "reindex-diskpacked": ("reindexing:reindex_diskpacked", "Rebuild the index of packed files."),
    "storage": ("storing:storage", "Move, mend and tidy the stores of a server."),
    "verify": ("verifying:verify", "Read every blob of a store, and name the damaged."),
    "version": ("about:version", "Show the version."),
}


@click.group(cls=LazyGroup, modes=MODES)
@global_flags
def pk() -> None:
    """Work with a peatkeep server, or with any server that speaks Perkeep's protocol."""


def main() -> None:
    end(run(pk, PK))
