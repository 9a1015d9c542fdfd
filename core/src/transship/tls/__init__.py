"""TLS with certificates, as QEMU has it: over channels that lead both ways, and to disks."""

from __future__ import annotations

from transship.tls.authorization import AccessList, Format, Policy, Rule
from transship.tls.credentials import Endpoint, X509Credentials, X509Security
from transship.tls.resolving import RulesFile, named_security, security_of

__all__ = [
    "AccessList",
    "Endpoint",
    "Format",
    "Policy",
    "Rule",
    "RulesFile",
    "X509Credentials",
    "X509Security",
    "named_security",
    "security_of",
]
