"""`python -m dolly_assets.profiling`: profiles any command."""

from dolly_assets.profiling.command import profile_command

if __name__ == "__main__":
    profile_command(prog_name="python -m dolly_assets.profiling")
