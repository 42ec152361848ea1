"""Manifests as ``info`` shows them: from packets, of signed objects, and of files to send."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pgmlite.cli.json_lines import oid_text
from pgmlite.cli.words import moment
from pgmlite.core.human import human_bytes, human_rate
from pgmlite.net.arguments import check_channels, check_fec
from pgmlite.net.planning import ObjectPlan, name_ladder
from pgmlite.storage.signed import SignedFile
from pgmlite.storage.spooled import open_source
from pgmlite.wire.layout import Order
from pgmlite.wire.manifest import Manifest


def signed_dict(path: Path) -> dict[str, Any]:
    """Return what ``--json`` prints of a FILE.pglm.

    Raises:
        DiskError: It can't be read.
        ObjectError: It is none, or is damaged.
    """
    signed = SignedFile(path)
    signed.close()
    keys = [one.key_id.hex() for one in signed.signatures]
    return manifest_dict(signed.manifest) | {"signed_by": keys}


def content_dict(
    path: Path, plan: dict[str, Any], port: int, hops: int, spool: Path | None
) -> dict[str, Any]:
    """Return what ``--json`` prints of a file or folder: which object `send` makes of it.

    Args:
        plan: As of `pgmlite.cli.options.of_manifest`.

    Raises:
        UsageError: An option is wrong.
        DiskError: It can't be read.
    """
    channels = plan.pop("channels")
    ladder = name_ladder(check_channels(channels, Order.ROUNDS), port)
    check_fec(plan["fec"])
    wanted = ObjectPlan(**plan)
    source = open_source(path, spool)
    try:
        manifest = wanted.manifest(source, wanted.size(hops), ladder)
        tree = source.block_tree(manifest.geometry)
    finally:
        source.close()
    return manifest_dict(replace(manifest, tree_digest=tree.root))


def manifest_dict(manifest: Manifest) -> dict[str, Any]:
    """Return what ``--json`` prints of a manifest."""
    return {
        "oid": oid_text(manifest.oid),
        "name": manifest.name,
        "size": manifest.size,
        "symbol_size": manifest.symbol_size,
        "block_symbols": manifest.block_symbols,
        "blocks": manifest.blocks,
        "repair_symbols": manifest.repair_symbols,
        "tile_blocks": manifest.tile_blocks,
        "tree_digest": manifest.tree_digest.hex(),
        "ladder": [
            {"rate": rung.rate, "group": rung.group.address, "port": rung.group.port}
            for rung in manifest.ladder
        ],
        "repairers": [str(one) for one in manifest.repairers],
        "release": asdict(manifest.release) if manifest.release else None,
        "tiles_digest": manifest.tiles_digest.hex() if manifest.tiles_digest else None,
        "archive": asdict(manifest.archive) if manifest.archive else None,
    }


def manifest_text(facts: dict[str, Any]) -> str:
    """Return it for people; `facts` may have the id alone."""
    if "name" not in facts:
        return f"object {facts['oid']}: no manifest in the capture"
    fec = "no FEC"
    if facts["repair_symbols"]:
        share = facts["repair_symbols"] / facts["block_symbols"]
        fec = f"{facts['repair_symbols']} repair symbols ({share:.0%}) for each, "
        fec += f"tiles of {facts['tile_blocks']} blocks"
    ladder = "".join(
        f", channel {number} {rung['group']} port {rung['port']} at {human_rate(rung['rate'])}"
        for number, rung in enumerate(facts["ladder"])
    )
    return (
        f"object {facts['oid']}: {facts['name']}, {human_bytes(facts['size'])}, "
        f"{facts['blocks']} blocks of {facts['block_symbols']} symbols of "
        f"{facts['symbol_size']} bytes, {fec}, tree {facts['tree_digest']}{ladder}"
        f"{_archive_text(facts)}{_release_text(facts)}"
    )


def _archive_text(facts: dict[str, Any]) -> str:
    """Return what an object that is a folder has in it."""
    if not (archive := facts["archive"]):
        return ""
    return f", a folder of {archive['entries']} members, {human_bytes(archive['size'])} in files"


def _release_text(facts: dict[str, Any]) -> str:
    """Return what an object is a release of, and who signed it."""
    text = ""
    if release := facts["release"]:
        ends = f"expires {moment(release['expires'])}" if release["expires"] else "never expires"
        text = (
            f", release {release['number']} of {release['stream']}, of "
            f"{moment(release['created'])}, {ends}, tiles {facts['tiles_digest']}"
        )
    if "signed_by" in facts:
        keys = ", ".join(facts["signed_by"])
        text += f", signed by {keys} (not checked: see verify)" if keys else ", not signed yet"
    return text
