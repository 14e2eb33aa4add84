"""The schemas of Kubernetes and KEDA that the manifests are checked with, and how they are made."""
