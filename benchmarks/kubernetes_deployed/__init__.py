"""Puts deploy/ on a real cluster and measures what its users rely on when something breaks.

    python -m benchmarks.kubernetes_deployed [--records 400] [--epochs 70] [--cluster PROGRAM]
        [--stages doctor terminated re_executed job_deleted orphaned collected]

The objects of deploy/kubernetes/prod, the Deployments that Dagster's chart makes from our values,
Postgres with TLS, and an S3 server that enforces deploy/iam/: UI, daemon, code location and runs
are pods with the accounts, permissions and limits of a deployment, and trainings are Jobs. What
users do goes through the UI's GraphQL. `DOLLY_TEST_CLUSTER` names the program that makes the
cluster (see CONTRIBUTING.md), in which nothing may be deployed. Takes a Postgres server
(Debian: apt-get install postgresql), Chromium and root.

- `objects.py`: what is applied.
- `deployment.py`: applies it, and asks it.
- `stages.py`: what happens to trainings, and what came of it.
"""
