"""The product while things around it break: real processes, real servers, real signals."""
