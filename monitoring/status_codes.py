"""What the codes of `ride_requests_total` mean to an operator, as PromQL's regular expressions.

Codes are HTTP's statuses, the names of gRPC's, and Triton's OK and ERROR. The rules in
prometheus/rules have the same expressions; a test compares them.
"""

FAULTS = "500|502|504|INTERNAL|UNKNOWN|DEADLINE_EXCEEDED|ERROR"
"""The server failed or was late. Triton says ERROR of a client's mistakes too."""

REFUSALS = "503|RESOURCE_EXHAUSTED|UNAVAILABLE"
"""Too much to do, or nothing to serve."""

SUCCESSES = "2..|OK"
