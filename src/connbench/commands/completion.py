"""`connbench completion`."""

from __future__ import annotations

import click

from connbench.commands.sections import Command
from connbench.commands.values import Word

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", cls=Command)
@click.argument("shell", type=Word(SHELLS), metavar="SHELL")
@click.pass_context
def command(context: click.Context, /, shell: str) -> None:
    """Print the script that completes connbench in SHELL: bash, zsh or fish.

    \b
    bash (from 4.4 on; with the package bash-completion, in new shells):
      connbench completion bash \\
        > ~/.local/share/bash-completion/completions/connbench
    zsh (a folder of $fpath, before compinit):
      connbench completion zsh > ~/.zfunc/_connbench
    fish:
      connbench completion fish > ~/.config/fish/completions/connbench.fish

    To try it in this bash only: source <(connbench completion bash)
    """  # noqa: D301  # click wants the character \b itself
    click.echo(completion_script(context.find_root().command, shell))


def completion_script(program: click.Command, shell: str) -> str:
    """The script that completes `program`, connbench's command line, in one of SHELLS; without a line's end."""
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  # click has all three
    script = kind(program, {}, "connbench", "_CONNBENCH_COMPLETE")
    source = ShellComplete.source(script)  # the method of bash's class starts a bash to ask for its version
    # click's script splits at each comma, so that fish offers plain for plain,bind. It must split at the first one.
    return source.replace('string split ","', 'string split -m 1 ","').rstrip("\n")
