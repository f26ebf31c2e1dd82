"""Blob storage: the contract, the checked door, the hub, backends and combinators."""
