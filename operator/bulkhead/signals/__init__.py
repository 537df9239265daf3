"""What trips a breaker from outside of the cluster: Prometheus' queries and Alertmanager's alerts; and who is told."""
