"""Ledgers of formats 1 and 2: JSON records of single blocks, Parquet files twice of whole epochs. Read, never written.

ledger/NAME/epochs.json               how many epochs are wanted
ledger/NAME/blocks/0003-000042.json   record of a committed block
ledger/NAME/sealed/0003-0003-DIGEST.parquet  records of complete epochs
ledger/NAME/sealed-copy/...           the same again
"""

from collections.abc import Mapping, Set

from deit_pipe.store import sealed
from deit_pipe.store.blocks.records import Damage, Ledger
from deit_pipe.store.manifest import Manifest, TeacherIdentity
from deit_pipe.store.places.location import Location
from deit_pipe.store.record import BlockRecord, Owner, owner_of, read_signed
from deit_pipe.store.sealed import Cell, Columns, Counts
from deit_pipe.store.strict.json_values import whole

EPOCHS = whole(0, 1_000_000)
FOLDERS = ("sealed", "sealed-copy")
MISSING = "is missing"
BAD = "fails its SHA-256"


def read_earlier(place: Location, manifest: Manifest, teacher: TeacherIdentity) -> Ledger:
    """Read all records of a teacher; damage is listed.

    Raises:
        ObjectMissing: a file went away since the listing.
    """
    owner, root = owner_of(manifest, teacher), f"ledger/{teacher.name}"
    keys = place.sizes(root)
    damage: list[Damage] = []
    epochs = None
    if (key := f"{root}/epochs.json") in keys:
        document = read_signed(place.get(key))
        epochs = None if document is None or not EPOCHS.holds(document.get("epochs")) else document["epochs"]
    recorded = [key for key in keys if key.startswith((f"{root}/blocks/", f"{root}/sealed"))]
    if epochs is None and (recorded or key in keys):  # nothing at all is a teacher that has just been added
        damage.append(Damage(key, (0, 0), True, MISSING if key not in keys else BAD))
    loose: dict[Cell, BlockRecord] = {}
    for key in sorted(key for key in keys if key.startswith(f"{root}/blocks/")):
        document = read_signed(place.get(key))
        stem = key.rpartition("/")[2].removesuffix(".json")
        if document is None or stem != f"{document['epoch']:04d}-{document['index']:06d}":
            epoch = int(stem[:4]) if stem[:4].isdecimal() else 0
            damage.append(Damage(key, (epoch, epoch), True, BAD))
            continue
        record = BlockRecord.from_json(document)
        if record.owner != owner:
            what = f"belongs to another teacher or cache ({record.owner})"
            damage.append(Damage(key, (record.epoch, record.epoch), True, what, True))
            continue
        loose[record.epoch, record.index] = record
    columns, counts, names, found = _read_sealed(place, root, keys, loose.keys(), owner)
    return Ledger(epochs, columns, loose, counts, [*damage, *found], names, tuple(keys))


def _read_sealed(
    place: Location, root: str, keys: Mapping[str, int], elsewhere: Set[Cell], owner: Owner
) -> tuple[Columns, Counts, list[str], list[Damage]]:
    """Read every sealed file; a damaged one is replaced by its copy in memory, and reported.

    A file that is there once only is damage, unless all its records are in whole files or `elsewhere` too: then it
    is what a writer left that died while it sealed or merged. Of a file with a record of somebody else no row counts.
    """
    names = sorted({key.rpartition("/")[2] for key in keys if key.startswith(f"{root}/sealed")})
    tables: dict[str, tuple[Columns, Counts]] = {}
    damage: list[Damage] = []
    half: list[str] = []
    for name in names:
        epochs = sealed.epochs_named(name) or (0, 0)
        good, bad = None, []
        for folder in FOLDERS:
            key = f"{root}/{folder}/{name}"
            if key not in keys:
                bad.append((key, MISSING))
                continue
            data = place.get(key)
            if sealed.is_whole(name, data):
                good = data if good is None else good
            else:
                bad.append((key, BAD))
        copy = "" if good is None else "; its copy is good"
        damage += [Damage(key, epochs, good is None, what + copy) for key, what in bad]
        if good is None:
            continue
        table = sealed.read_table(good)
        if stranger := sealed.stranger(table[0], owner):
            what = f"belongs to another teacher or cache ({stranger})"
            both = (f"{root}/{folder}/{name}" for folder in FOLDERS)
            damage += [Damage(key, epochs, True, what, True) for key in both if key in keys]
            continue
        tables[name] = table
        half += [name for _, what in bad if what == MISSING]
    covered = set(elsewhere).union(*(sealed.cells_of(tables[name][0]) for name in tables if name not in half))
    spare = {name for name in half if sealed.cells_of(tables[name][0]) <= covered}
    damage = [entry for entry in damage if entry.key.rpartition("/")[2] not in spare]
    columns, counts = sealed.joined(list(tables.values()))
    return columns, counts, list(tables), damage
