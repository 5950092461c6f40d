"""What goes wrong with the Hugging Face hub, said in terms of what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from quipu.errors import DownloadError, ModelNotFound, Offline

TOKENS = "https://huggingface.co/settings/tokens"


@contextmanager
def hub_errors(repository: str, revision: str | None) -> Iterator[None]:
    """Turn errors of huggingface_hub into ModelNotFound, Offline or DownloadError with a remedy."""
    from huggingface_hub import errors

    # httpx.HTTPError, or httpx2's, whichever this version of huggingface_hub is built on.
    network_error: type[Exception] = errors.HfHubHTTPError.__mro__[1]
    try:
        yield
    except errors.GatedRepoError:
        raise DownloadError(
            f"{repository} is gated: accept its licence at https://huggingface.co/{repository}, make a token at "
            f"{TOKENS}, and run again with HF_TOKEN=hf_..."
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelNotFound(
            f"{repository} has no revision {revision!r}; see its branches and tags on the hub"
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelNotFound(
            f"the hub shows no model {repository}: check the spelling; if it is private, set HF_TOKEN to a token that "
            f"may read it ({TOKENS})"
        ) from None
    except errors.HFValidationError:
        raise ModelNotFound(f"{repository!r} is no name of a model on the hub; it looks like OWNER/NAME") from None
    except errors.HfHubHTTPError as error:
        raise _refused(repository, error.response.status_code) from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, network_error) as error:
        raise Offline(
            f"the hub cannot be reached ({_first_line(error)}); check the network, the proxy, HF_ENDPOINT and "
            "HF_HUB_OFFLINE. A model file copied here by other means works by its path"
        ) from None
    except (OSError, RuntimeError) as error:  # hf_xet, which moves the bytes, has RuntimeError only
        if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower():
            raise DownloadError("the disk is full; make room, or set HF_HOME to a folder on a larger disk") from None
        raise DownloadError(f"{repository} cannot be downloaded: {_first_line(error)}; run the same again") from None


def _refused(repository: str, status: int) -> DownloadError:
    if status in (401, 403):
        return DownloadError(
            f"the hub refuses access to {repository} ({status}); set HF_TOKEN to a valid token: {TOKENS}"
        )
    if status == 429:
        return DownloadError(f"the hub asks for fewer requests (429); wait a while, or set HF_TOKEN: {TOKENS}")
    return DownloadError(f"the hub answered {status} for {repository}; try again later")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
