"""TLS with certificates, over any channel that leads both ways, as QEMU has it."""

from __future__ import annotations

from transship.tls.authorization import AccessList, Format, Policy, Rule
from transship.tls.credentials import Endpoint, X509Credentials, X509Security
from transship.tls.resolving import RulesFile, security_of

__all__ = [
    "AccessList",
    "Endpoint",
    "Format",
    "Policy",
    "Rule",
    "RulesFile",
    "X509Credentials",
    "X509Security",
    "security_of",
]
