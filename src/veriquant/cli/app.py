"""The application that every verb adds itself to: errors, interruption and help are alike in all."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from veriquant.checks import cut
from veriquant.errors import VeriQuantError

#: Characters of the longest line of complaint: what a message quotes of its input is cut where it is written.
_LONGEST = 2000
INTERRUPTED = 128 + signal.SIGINT


class _Group(TyperGroup):
    """A group whose verbs end in one clear line where the user can mend something."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except VeriQuantError as error:
            complain(f"error: {cut(' '.join(str(error).split()), _LONGEST)}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            complain("interrupted: what is finished is kept; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # whoever read our output has gone; nothing more can be said, at exit neither
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:
            # such as a name longer than the system allows; what is expected to fail is told where it happens
            place = "" if error.filename is None else f"{cut(str(error.filename))}: "
            complain(f"error: {place}{error.strerror or error}")
            raise typer.Exit(2) from None
        except MemoryError:
            complain("error: not enough memory; use a smaller batch, fewer images or a larger machine")
            raise typer.Exit(2) from None


def complain(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr, flush=True)


app = typer.Typer(
    cls=_Group,
    name="veriquant",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="""Makes biometric embedding networks small and fast, and proves that recognition survives.

\b
Begin here:
  veriquant demo                                          a whole study on synthetic faces, in a minute or two
  veriquant evaluate face.onnx --benchmark lfw:DIR        how well does a network recognise?
  veriquant quantize face.onnx --recipe int8 --calibration DIR -o face-int8.onnx
  veriquant train examples/train-cfp-eyes.yaml            a network from scratch
  veriquant sensitivity face.onnx --calibration DIR       which layers are to blame?
  veriquant study study.yaml                              networks × recipes × benchmarks, with a report

\b
NETWORK is an .onnx, TorchScript or .pt2 file, FAMILY:CHECKPOINT (mobilefacenet:weights.pt) or a name of `networks`.
""",
)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
) -> None:
    if version:
        import veriquant

        print(f"veriquant {veriquant.__version__}")
        raise typer.Exit
