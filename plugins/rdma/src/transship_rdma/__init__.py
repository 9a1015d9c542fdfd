"""Transship's transport for rdma: URIs."""
