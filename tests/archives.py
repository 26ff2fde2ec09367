"""Archives for tests, made in memory."""

import io
import zipfile


def zipped(members, method=zipfile.ZIP_DEFLATED):
    """Return a zip archive of the members, name to content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()
