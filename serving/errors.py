"""What can go wrong between a client's bytes and its answer, free of any web framework.

    RideError
    |-- InvalidRequest            the client sent something that can't be served as it is
    |   |-- InvalidImage            bytes that are not a usable image
    |   |-- UnsupportedEncoding     a compressed body of a kind that is not undone here
    |   |-- RequestTimeout          a body that did not arrive in time
    |   |-- Unsupported             a feature that is switched off, or not offered
    |   `-- RequestTooLarge         more bytes, pixels or images than the limits allow
    |       `-- ImageTooLarge
    |-- ModelNotFound             a model or version that is not served
    |-- ModelControlRefused       loading or unloading where the server's start forbids it
    |-- DeadlineExceeded          the client's own deadline passed
    |-- RegionNotFound            a shared memory region that is not registered
    |-- RegionExists              a shared memory region's name that is taken
    |-- Overloaded                no room in the queue; try again later
    |-- NoBackend                 no Triton server could answer; try again later
    |-- BackendFault              a Triton server failed, or its answer does not fit the model
    |-- ModelRepositoryError      the model repository is missing, damaged or altered
    |-- AuditError                an audit's record that can't be used for what was asked
    |-- SettingsError             a flag or setting that makes no sense
    `-- InferenceError            the runtime failed on valid input; our fault

Each transport maps these classes to its own codes in one total table.
"""

from __future__ import annotations


class RideError(Exception):
    """Base of every error with a message that may be shown to a client or user."""


class InvalidRequest(RideError):
    """A parameter, tensor or body that can't be understood."""


class InvalidImage(InvalidRequest):
    """Bytes that are not an image of a supported kind, or a damaged one."""


class UnsupportedEncoding(InvalidRequest):
    """A Content-Encoding that this server does not undo."""


class RequestTimeout(InvalidRequest):
    """A body that came too slowly."""


class Unsupported(InvalidRequest):
    """A feature of the protocol that is switched off here, or that this server does not offer."""


class RequestTooLarge(InvalidRequest):
    """A body or batch above the server's limits."""


class ImageTooLarge(RequestTooLarge):
    """One image with more bytes or pixels than the server decodes."""


class ModelNotFound(RideError):
    """A model name or version that this server does not serve."""


class ModelControlRefused(RideError):
    """Loading or unloading by request, which this server was not started for."""


class DeadlineExceeded(RideError):
    """The request's deadline passed before its answer was there."""

    def __init__(
        self, message: str = "the request's deadline passed before it was answered"
    ) -> None:
        super().__init__(message)


class RegionNotFound(RideError):
    """A shared memory region that no client has registered."""


class RegionExists(RideError):
    """A name under which a shared memory region is registered already."""


class Overloaded(RideError):
    """The server has as much waiting work as it accepts."""

    def __init__(self, message: str = "the server is busy; try again in a moment") -> None:
        super().__init__(message)


class NoBackend(RideError):
    """None of the Triton servers behind this one could answer."""


class BackendFault(RideError):
    """A Triton server failed on a request, or answered what does not fit the model."""


class ModelRepositoryError(RideError):
    """A model repository that can't be served."""


class AuditError(RideError):
    """What an audit recorded can't be read, or doesn't do for what it was wanted for."""


class SettingsError(RideError):
    """A server setting that is out of range or impossible here."""


class InferenceError(RideError):
    """The runtime failed; the message tells the client nothing about why."""
