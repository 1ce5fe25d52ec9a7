"""The figures as tables, in Markdown and in HTML. Figures that a report lacks, as older ones do, leave their rows out."""

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TITLES = {
    "model": "model",
    "constant_covariance": "constant covariance",
    "constant_correlation": "our sigmas, constant correlation",
    "average_weights": "average weights",
    "mixture_constant_correlation": "mixture, constant correlation",
}


@dataclass
class Table:
    """A table of strings.

    Attributes:
        columns: heads of the columns.
        rows: as many cells each; a row whose first cell starts with ``**`` stands out.
    """

    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """As Markdown, with a newline at its end."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("|---" * len(row) + "|" if row[0] == "---" else f"| {' | '.join(row)} |" for row in lines) + "\n"

    def html(self) -> str:
        """As an HTML table, first column left, the others right."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.columns)
        body = []
        for row in self.rows:
            strong = ' class="strong"' if row[0].startswith("**") else ""
            cells = [html.escape(cell.strip("*") if strong else cell) for cell in row]
            body.append(f"<tr{strong}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def markdown(report: dict[str, Any]) -> str:
    """The main tables of a report as Markdown, for the screen, a README or a model card."""
    parts = [law_table(report).markdown(), joint_table(report).markdown()]
    if report.get("confusion"):
        parts += [exchange_table(report).markdown(), confusion_table(report).markdown()]
    if report.get("conditioning"):
        parts.append(conditioning_table(report).markdown())
    if report.get("clicks"):
        parts.append(click_table(report).markdown())
    if report.get("oks"):
        parts.append(oks_table(report).markdown())
    parts += [f"{line}\n" for line in remarks(report)]
    return "\n".join(parts)


def law_table(report: dict[str, Any]) -> Table:
    """The uncertainty of the model beside its rivals, one column each."""
    laws = report["laws"]
    table = Table([f"{report['people']} people", *(TITLES[name] for name in laws)])

    def row(title: str, pick: Callable[[dict[str, Any]], str]) -> None:
        cells = [pick(figures) for figures in laws.values()]
        if any(cells):  # Differences from no rival say nothing.
            table.rows.append([title, *cells])

    def difference(key: str, digits: int) -> Callable[[dict[str, Any]], str]:
        def pick(figures: dict[str, Any]) -> str:
            if "difference" not in figures:
                return ""
            entry = figures["difference"][key]
            if entry["value"] is None:  # Such as a rank correlation in torsos where nobody has a torso.
                return "-"
            return f"{entry['value']:+.{digits}f} ({entry['interval'][0]:+.{digits}f} to {entry['interval'][1]:+.{digits}f})"

        return pick

    row("NLL, nats per person, picture pixels", lambda f: number(f["nll"]["pixels"]))
    row("NLL, lengths in person sizes", lambda f: number(f["nll"]["person_sizes"]))
    if "frame" in laws["model"]["nll"]:
        row("NLL, lengths in crop pixels", lambda f: number(f["nll"]["frame"]))
    row("NLL, model minus rival", difference("nll", 2))
    row("TAC, picture pixels", lambda f: number(f["tac"]["pixels"]))
    row("TAC, model minus rival", difference("tac", 2))
    if "energy_score" in laws["model"]:
        row("energy score, all joints together, picture pixels", lambda f: number(f["energy_score"]["pixels"]))
        row("energy score, model minus rival", difference("energy_score", 2))
        row("energy score, mean over single joints, picture pixels", lambda f: number(f["energy_score"]["per_joint"]["pixels"]))
    nominal = " / ".join(report["coverage_band"])
    row(f"coverage at {nominal} %, all joints together", lambda f: shares(f["coverage"]["joint"]))
    row(f"coverage at {nominal} %, mean over joints", lambda f: shares(f["coverage"]["per_joint"]))
    if report.get("limbs"):
        row(f"coverage at {nominal} %, limb vectors, mean over limbs", lambda f: shares(f["coverage"]["limbs"]))
    row("sharpness, mean log sigma, log pixels", lambda f: number(f["sharpness"]))
    row("rank correlation of expected and found error, person sizes", lambda f: number(f["rank_correlation"]["person_sizes"]))
    row("rank correlation of expected and found error, torsos", lambda f: number(f["rank_correlation"]["torsos"]))
    row("rank correlation, torsos, model minus rival", difference("rank_correlation", 2))
    if "of_sigma" in laws["model"]["rank_correlation"]:
        row("rank correlation of sigma and found error, person sizes", lambda f: number(f["rank_correlation"]["of_sigma"]))
    if "risk_coverage" in laws["model"]:
        row("error left without the least certain 20 % of joints", lambda f: percent_of(f["risk_coverage"]["left_at_80"], 1))
        row("area under the risk-coverage curve", lambda f: percent_of(f["risk_coverage"]["relative_area"], 1))
    row("degrees of freedom", lambda f: " / ".join("inf" if v is None else f"{v:.1f}" for v in f["degrees_of_freedom"]))
    table.rows.append(["NLL as Gaussians", *(number(report["gaussian_nll"].get(name)) for name in laws)])
    return table


def joint_table(report: dict[str, Any]) -> Table:
    """Keypoints joint by joint."""
    pck, pckh = report["pck"], report.get("pckh")
    columns: list[tuple[str, Mapping[str, Any], float | None]] = [
        (f"PCK@{pck['threshold']} of the {pck['unit']}", pck["per_joint"], pck["mean"])
    ]
    columns += [(f"PCKh@{t}", pckh[t]["per_joint"], pckh[t]["mean"]) for t in ("0.5", "0.1") if pckh]
    table = Table(["joint", *(title for title, _, _ in columns)])
    for joint in labelled_names(report, "joints", pck["per_joint"]):
        table.rows.append([joint, *(number(shares[joint], 3) for _, shares, _ in columns)])
    table.rows.append(["**all labelled joints**", *(f"**{number(mean, 3)}**" for _, _, mean in columns)])
    return table


def calibration_table(report: dict[str, Any]) -> Table:
    """Error, sigma and coverage joint by joint, then the mean over joints for the model and its rivals."""
    masses = list(report["coverage_band"])
    cover = report["laws"]["model"]["coverage_of_joints"]
    heads = ["joint", "labels", "mean error, px", "mean sigma, px", "rank correlation"]
    table = Table([*heads, *(f"covered at {mass} %" for mass in masses)])
    for joint in labelled_names(report, "joints", report["joints"]):
        facts = report["joints"][joint]
        cells = [_covered(cover[joint][mass], facts["coverage_band"][mass]) for mass in masses]
        lengths = [number(facts[key]["pixels"], 1) for key in ("mean_error", "mean_sigma")]
        table.rows.append([joint, str(facts["labelled"]), *lengths, number(facts["rank_correlation"]), *cells])
    for name, figures in report["laws"].items():
        means = [percent_of(figures["coverage"]["per_joint"][mass]) for mass in masses]
        table.rows.append([f"**mean over joints, {TITLES[name]}**", "", "", "", "", *means])
    return table


def thirds_table(report: dict[str, Any]) -> Table:
    """Coverage of joints in thirds of predicted sigma."""
    masses = list(report["coverage_band"])
    table = Table(["law", "third of the joints", *(f"covered at {mass} %" for mass in masses)])
    for name, figures in report["laws"].items():
        by_third = figures["coverage"]["by_sigma_thirds"]
        for index, third in enumerate(("surest", "middle", "least sure")):
            table.rows.append([TITLES[name], third, *(percent_of(by_third[mass][index]) for mass in masses)])
    return table


def limb_table(report: dict[str, Any]) -> Table:
    """Coverage of limb vectors, the two joints' difference, for the model and, in the last rows, the mean of each law."""
    masses = list(report["coverage_band"])
    cover = report["laws"]["model"]["coverage_of_limbs"]
    table = Table(["limb", "labels", *(f"covered at {mass} %" for mass in masses)])
    for limb in labelled_names(report, "limbs", report["limbs"]):
        facts = report["limbs"][limb]
        cells = [_covered(cover[limb][mass], facts["coverage_band"][mass]) for mass in masses]
        table.rows.append([limb, str(facts["labelled"]), *cells])
    for name, figures in report["laws"].items():
        means = [percent_of(figures["coverage"]["limbs"][mass]) for mass in masses]
        table.rows.append([f"**mean over limbs, {TITLES[name]}**", "", *means])
    return table


def exchange_table(report: dict[str, Any]) -> Table:
    """Each exchange of left and right: what the model says, and what the labels say."""
    table = Table(["exchange", "mean weight", "mean responsibility", "likeliest once labels are known"])
    for name, facts in report["confusion"]["exchanges"].items():
        cells = [f"{percent_of(facts[key], 1)} %" for key in ("weight", "responsibility", "likeliest")]
        table.rows.append([name, *cells])
    whole = report["confusion"]["exchanged"]
    cells = [f"**{percent_of(whole[key], 1)} %**" for key in ("predicted", "found", "likeliest")]
    table.rows.append(["**any exchange**", *cells])
    return table


def confusion_table(report: dict[str, Any]) -> Table:
    """People by the predicted probability of an exchange; a star more than two standard errors away."""
    table = Table(["probability of an exchange, predicted", "people", "found", "likeliest once labels are known"])
    for row in report["confusion"]["bins"]:
        far = abs(row["found"] - row["predicted"]) > 2 * row["standard_error"]
        found = f"{percent_of(row['found'], 1)} %{' *' if far else ''}"
        table.rows.append(
            [f"{percent_of(row['predicted'], 1)} %", str(row["people"]), found, f"{percent_of(row['likeliest'], 1)} %"]
        )
    return table


def conditioning_table(report: dict[str, Any]) -> Table:
    """Mean error of the other joints of a limb and its mirror limb, before and after one true joint is given."""
    laws = report["laws"]
    table = Table(["given: others, mean error in pixels", "people", "before", *(TITLES[name] for name in laws)])
    for joint, facts in report["conditioning"].items():
        cells = []
        for name in laws:
            entry = facts["after"][name]
            cells.append(number(entry["pixels"]) + (" *" if _apart(entry.get("difference")) else ""))
        head = f"{joint}: other {facts['limbs']} joints"
        table.rows.append([head, str(facts["people"]), number(facts["before"]["pixels"]), *cells])
    return table


def click_table(report: dict[str, Any]) -> Table:
    """Mean error of the other joints, before and after corrections, by law."""
    clicks = report["clicks"]
    table = Table(["given: others, mean error in pixels", *(f"{TITLES[name]}: before, after" for name in clicks["one"])])
    if "trunk" in clicks:
        trunk = clicks["trunk"]
        table.rows.append(
            [", ".join(trunk["given"]), *(_before_after(trunk["before"], after) for after in trunk["after"].values())]
        )
    for which, title in (("random", "any one joint"), ("best", "the joint that the law expects to help most")):
        cells = [_before_after(facts[which]["before"], facts[which]["after"]) for facts in clicks["one"].values()]
        table.rows.append([title, *cells])
    return table


def click_words(report: dict[str, Any]) -> list[str]:
    """Sentences on calibration after a click, and on the order of pictures."""
    words = []
    for kind, where in (("near", "inside its 50 % region"), ("far", "outside its 90 % region")):
        facts = report["clicks"]["coverage"][kind]
        if facts["clicks"]:
            covered = " and ".join(f"{percent_of(share, 1)} % at {mass} %" for mass, share in facts["covered"].items())
            words.append(f"After a click {where} ({facts['clicks']} of them) the law covers the other joints in {covered}.")
    return words


def ranking_words(report: dict[str, Any]) -> str:
    """A sentence on how many misses come first."""
    facts = report["ranking"]
    return (
        f"The {percent_of(facts['first'], 0)} % of people that `posecov rank` puts first hold "
        f"{percent_of(facts['misses'], 1)} % of all joints that PCK misses."
    )


def _before_after(before: float, after: float) -> str:
    return f"{number(before)}, {number(after)} ({100 * (after / before - 1):+.1f} %)"


def _apart(difference: dict[str, Any] | None) -> bool:
    """Whether an interval leaves 0 out."""
    return difference is not None and difference["interval"][0] * difference["interval"][1] > 0


def labelled_names(report: dict[str, Any], kind: str, names: Iterable[str]) -> list[str]:
    """The joints or limbs (``kind``) that anybody has labelled; figures of an older release do not tell, and all are taken."""
    facts = report.get(kind) or {}
    return [name for name in names if name not in facts or facts[name]["labelled"]]


def oks_table(report: dict[str, Any]) -> Table:
    """COCO's average precision."""
    oks = report["oks"]
    titles = {
        "ap": "AP",
        "ap50": "AP at 0.50",
        "ap75": "AP at 0.75",
        "ap_medium": "AP medium",
        "ap_large": "AP large",
        "ar": "AR",
    }
    table = Table([f"OKS, {oks['people']} people", ""])
    table.rows = [[title, number(oks[key], 3)] for key, title in titles.items()]
    table.rows.append(["mean OKS", number(oks["mean"], 3)])
    table.rows.append(["mean OKS that the law expects", number(oks["expected"], 3)])
    return table


def remarks(report: dict[str, Any]) -> list[str]:
    """Sentences beside the tables."""
    error = report["mean_error"]
    band = ", ".join(f"{low:.1%} to {high:.1%} at {mass} %" for mass, (low, high) in report["coverage_band"].items())
    lines = [
        f"Mean error {number(error['pixels'])} picture pixels, {percent_of(error['person_sizes'], 2)} % of the person's size.",
        f"A calibrated law covers {band} of this many people, 19 times of 20.",
    ]
    missing = [joint for joint, facts in report.get("joints", {}).items() if not facts["labelled"]]
    if missing:
        lines.append(f"Never labelled here, and left out: {', '.join(missing)}.")
    if "people" in report["pck"]:
        lines += _unit_words(report)
    if report.get("rivals_missing"):
        lines.append(f"No rivals: {report['rivals_missing']}.")
    if report.get("confusion"):
        lines.append(_confusion_words(report["confusion"]))
    if report.get("conditioning"):
        lines.append("Given one true joint: a star where the model's error differs from the rival's (paired 95 % interval).")
    if report.get("clicks"):
        lines += click_words(report)
    if report.get("ranking"):
        lines.append(ranking_words(report))
    risk = report["laws"]["model"].get("risk_coverage")
    if risk:
        lines.append(
            "Error left and area are in % of the mean error of all joints, in person sizes; a law that knew every error would "
            f"reach {percent_of(risk['perfect_left_at_80'], 1)} and {percent_of(risk['perfect_relative_area'], 1)}."
        )
    return lines


def _unit_words(report: dict[str, Any]) -> list[str]:
    """What PCK measures in, where that is not a torso of everybody."""
    pck = report["pck"]
    if pck["unit"] != "torso":
        return [
            f"Nobody's torso is known: PCK counts joints closer than {pck['threshold']:g} of the person's box, its longer side."
        ]
    if pck["people"] < report["people"]:
        return [f"PCK is about the {pck['people']} people whose torso is known."]
    return []


def _confusion_words(confusion: dict[str, Any]) -> str:
    whole, gap = confusion["exchanged"], confusion["exchanged"]["difference"]
    return (
        f"Exchanges found minus predicted {100 * gap['value']:+.1f} points ({100 * gap['interval'][0]:+.1f} to "
        f"{100 * gap['interval'][1]:+.1f}), mean distance in bins {percent_of(confusion['calibration_error'], 1)} points, rank "
        f"correlation {number(whole['rank_correlation'])}; labels decide with 0.9 or more for {percent_of(whole['decided'])} % "
        "of people, and repeat the prediction where they do not. A star: more than two standard errors from what was predicted."
    )


def shares(by_mass: dict[str, float | None]) -> str:
    """Shares as percents, one after the other."""
    return " / ".join(percent_of(share) for share in by_mass.values())


def percent_of(share: float | None, digits: int = 0) -> str:
    """A share as a percent without its sign; a dash for None."""
    return number(None if share is None else 100 * share, digits)


def number(value: float | None, digits: int = 2) -> str:
    """A number; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def _covered(share: float | None, band: Sequence[float] | None) -> str:
    """A share in percent, with a star where it lies outside of its band."""
    outside = share is not None and band is not None and not band[0] <= share <= band[1]
    return percent_of(share) + (" *" if outside else "")
