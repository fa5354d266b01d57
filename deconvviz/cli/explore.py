"""`deconvviz explore`: a page on one's own machine, the network live."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common

if TYPE_CHECKING:
    from deconvviz.explorer.calls import Origin

ORDER = 15


@click.command(short_help="Explore pictures and a network live, on a page in the browser.")
@click.argument("images", nargs=-1, type=click.Path(exists=True, path_type=Path))
@common.network_options(default="zfnet", show_default=True)
@click.option("--store", type=common.FILE, help="What deconvviz scan has written: the strongest pictures of each unit.")
@click.option("--atlas", type=common.FOLDER, help="The site made of it. Default: where deconvviz atlas puts it.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@common.device_option
def explore(
    images: tuple[Path, ...], store: Path | None, atlas: Path | None, port: int, no_browser: bool, **options: Any
) -> None:
    """Explore IMAGES (pictures, or folders of them) and a network live, on a page in the browser.

    Choose a layer, point at a map: what excites it is sent back to pixels at once. Drag a grey square over the picture:
    the probabilities follow. Other pictures can be dropped on the page; without IMAGES it begins with the demo ones. It
    is served to this machine alone; Ctrl-C ends it.

    \b
    Example:
      deconvviz explore --model zfnet photos/
      deconvviz explore --model torchvision:resnet50 image.jpg
      deconvviz explore --store atlas.db --atlas site/ image.jpg
    """
    from deconvviz.data.noise import quiet_decoders
    from deconvviz.explorer.handle import Explorer, check_installed
    from deconvviz.paper.pages import demo_pictures

    if atlas is not None and store is None:
        raise click.UsageError("--atlas needs --store")
    check_installed()
    quiet_decoders()
    net = common.network_from(options)
    given = list(images) or list(demo_pictures())
    if store is not None and atlas is None:
        atlas = _atlas_of(store)
    with Explorer(net, given, store, port, origin=_origin(options), atlas=atlas) as page:
        click.echo(page.url)
        click.echo("deconvviz: open this address if no browser has; Ctrl-C ends it", err=True)
        if not no_browser:
            webbrowser.open(page.url)
        page.join()


def _atlas_of(store: Path) -> Path | None:
    """The site where `deconvviz atlas` puts that of a store, if it says that it is of this one."""
    from deconvviz.atlas.linked import LinkedSite
    from deconvviz.errors import AtlasError
    from deconvviz.scanning.store import Store

    folder = common.site_of(store)
    if not folder.is_dir():
        return None
    try:
        with Store.open(store) as opened:
            LinkedSite(folder, opened)
    except AtlasError:
        return None
    return folder


def _origin(options: dict[str, Any]) -> Origin:
    """How others come by the network that the options name: in Python, and by a command."""
    from deconvviz.explorer.calls import Origin

    given = common.preprocessing_given(options)
    own = given.pop("labels", None) is None
    weights = options["weights"] or (options["checkpoint"] and str(options["checkpoint"]))
    more = [f"{name}={value!r}" for name, value in given.items()]
    arguments = [repr(options["model"]), *([repr(weights)] if weights else []), *more]
    code = f"net = deconvviz.load({', '.join(arguments)})"
    flags = ["--model", options["model"], *(["--weights", weights] if weights else [])]
    flags += common.said_of_preprocessing(options)
    if options["device"] != "cpu":
        code += f"\nnet.module.to({options['device']!r})"
        flags += ["--device", options["device"]]
    return Origin(code, tuple(flags), own)
