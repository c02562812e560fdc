"""What every error becomes over gRPC: a status code and one sentence."""

from __future__ import annotations

import grpc

from serving import errors

CODE: dict[type[errors.RideError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidImage: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedEncoding: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.RequestTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.RequestTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ImageTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ModelControlRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RegionNotFound: grpc.StatusCode.NOT_FOUND,
    errors.RegionExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NoBackend: grpc.StatusCode.UNAVAILABLE,
    errors.BackendFault: grpc.StatusCode.INTERNAL,
    errors.ModelRepositoryError: grpc.StatusCode.INTERNAL,
    errors.AuditError: grpc.StatusCode.INTERNAL,
    errors.SettingsError: grpc.StatusCode.INTERNAL,
    errors.InferenceError: grpc.StatusCode.INTERNAL,
}
"""The code of every error; a test shows that none is missing."""
