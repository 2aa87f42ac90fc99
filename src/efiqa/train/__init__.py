"""Training, distillation and export: the only place with torch (extra `train`)."""
