"""The authorities whose certificates are trusted when this program calls a server."""

from __future__ import annotations

import os
import ssl

import certifi

from vm_webapp.errors import ConfigurationError


def trusted_certificates() -> ssl.SSLContext:
    """Return the TLS settings of a client that trusts Mozilla's authorities, or those that the environment names.

    ``SSL_CERT_FILE`` is a file of certificates and ``SSL_CERT_DIR`` a folder of them, as for OpenSSL.

    Raises:
        ConfigurationError: the certificates that the environment names cannot be used.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    try:
        if not file and folder:
            return ssl.create_default_context(capath=folder)
        return ssl.create_default_context(cafile=file or certifi.where())
    except OSError as error:  # of the certificates, whose errors do not name the variable
        raise ConfigurationError(
            f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used ({error.strerror or error}): set it to certificates of"
            " authorities that this machine can read, or unset it"
        ) from error
