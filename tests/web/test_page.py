import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posecov import PoseEstimator
from posecov.pose import Pose

WEB = Path(__file__).parents[2] / "deploy" / "web"
SAMPLE = WEB / "public" / "sample.jpg"
BOX = json.loads((WEB / "src" / "sample.json").read_text())["box"]
READY = "html[data-ready]"
WAIT = 60_000  # Milliseconds: a machine that is busy with other things still passes.


@pytest.fixture(scope="module")
def visit(site: str) -> Iterator[Callable[..., Any]]:
    """Opens the page in a browser and collects what goes wrong there; nothing may, nor any request elsewhere."""
    contexts, wrong = [], []

    def open_page(browser: Any, *, ready: bool = True, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 860}, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith((site, "blob:")) else None)
        page.goto(site)
        page.wait_for_selector(READY if ready else ".joint", state="attached", timeout=WAIT)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def loaded(visit, browser) -> Any:
    return visit(browser)


@pytest.fixture
def page(loaded) -> Any:
    """A page with its model, showing the sample; tests share it, for a model takes seconds to start."""
    loaded.click("#sample")
    loaded.wait_for_selector("#stage[data-picture='sample.jpg']")
    loaded.wait_for_selector("#undo:disabled", state="attached")
    return loaded


@pytest.fixture(scope="module")
def estimator() -> PoseEstimator:
    return PoseEstimator("tiny", threads=1)


def document_of(page: Any) -> dict[str, Any]:
    """What the page's own JSON says."""
    page.wait_for_selector("#save-json:enabled", timeout=WAIT)
    with page.expect_download() as download:
        page.click("#save-json")
    return json.loads(Path(download.value.path()).read_text())


def pose_of(page: Any) -> Pose:
    return Pose.from_dict(document_of(page)["people"][0])


def centre(page: Any, joint: str) -> tuple[float, float]:
    box = page.locator(f"[data-joint={joint}]").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Any, joint: str, dx: float, dy: float) -> None:
    x, y = centre(page, joint)
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(x + dx * step / 5, y + dy * step / 5)
    page.mouse.up()
    page.mouse.move(2, 2)


def idle(page: Any) -> None:
    page.wait_for_selector("#busy", state="hidden", timeout=WAIT)


def choose(page: Any, path: Path) -> None:
    page.set_input_files("#file", str(path))


def test_sample_is_there_at_once_and_says_what_python_says(visit, browser, estimator):
    page = visit(browser, ready=False)
    document = document_of(page)
    pose, wanted = Pose.from_dict(document["people"][0]), estimator(SAMPLE, [BOX])[0]
    assert document["model"] == estimator.metadata.name
    assert (document["image"], document["width"], document["height"]) == ("sample.jpg", 512, 512)
    np.testing.assert_allclose(pose.keypoints, wanted.keypoints, atol=0.5)
    np.testing.assert_allclose(pose.expected_error, wanted.expected_error, atol=0.5)


def test_network_in_the_browser_gives_pythons_numbers_in_a_box_drawn_by_hand(page, estimator):
    page.click("#box")
    stage = page.locator("#stage").bounding_box()
    scale = min(stage["width"], stage["height"]) / 512
    left = stage["x"] + (stage["width"] - 512 * scale) / 2
    page.mouse.move(left + 500 * scale, stage["y"] + 4)  # Beside the box that is there.
    page.mouse.down()
    page.mouse.move(left + 60 * scale, stage["y"] + 500 * scale, steps=4)
    page.mouse.up()
    idle(page)
    pose = pose_of(page)
    assert 55 < pose.box[0] < 65
    wanted = estimator(SAMPLE, [pose.box])[0]
    np.testing.assert_allclose(pose.keypoints, wanted.keypoints, atol=0.5)
    np.testing.assert_allclose(pose.sigma, wanted.sigma, rtol=0.02)
    page.keyboard.press("Escape")
    page.click("#undo")
    np.testing.assert_allclose(pose_of(page).box, BOX)


def test_search_finds_whom_python_finds(page, estimator):
    wanted = estimator(SAMPLE)[0]
    page.click("#find")
    idle(page)
    pose = pose_of(page)
    assert np.abs(pose.box - wanted.box).max() < 0.05 * wanted.box[2:].max()
    np.testing.assert_allclose(pose.keypoints, estimator(SAMPLE, [pose.box])[0].keypoints, atol=0.5)


def test_small_model_can_be_chosen(page):
    page.select_option("#model", "small")
    page.wait_for_selector("#engine[title*=small]", timeout=WAIT)
    idle(page)
    document = document_of(page)
    assert document["model"] == "posecov-lsp14-small"
    wanted = PoseEstimator("small", threads=1)(SAMPLE, [BOX])[0]
    np.testing.assert_allclose(Pose.from_dict(document["people"][0]).keypoints, wanted.keypoints, atol=0.5)


def test_works_without_a_network_after_the_first_visit(page, tmp_path):
    page.wait_for_selector("#offline:not(:empty)", state="attached", timeout=WAIT)
    page.context.set_offline(True)
    try:
        page.reload()
        page.wait_for_selector(READY, state="attached", timeout=WAIT)
        copy = tmp_path / "copy.jpg"
        copy.write_bytes(SAMPLE.read_bytes())
        choose(page, copy)
        idle(page)
        assert document_of(page)["image"] == "copy.jpg"
    finally:
        page.context.set_offline(False)


def test_drag_moves_the_others_as_python_does_and_undo_brings_back(page):
    before = pose_of(page)
    drag(page, "r_wrist", -30, 150)
    after = pose_of(page)
    assert after.known == ("r_wrist",)
    place = after.keypoints[after.names.index("r_wrist")]
    wanted = before.condition({"r_wrist": place})
    np.testing.assert_allclose(after.keypoints, wanted.keypoints, atol=0.05)
    np.testing.assert_allclose(after.covariance, wanted.covariance, atol=1e-3 * wanted.covariance.max())
    assert after.degrees_of_freedom == pytest.approx(before.degrees_of_freedom + 2)
    assert np.abs(after.keypoints - before.keypoints).max(axis=1)[after.names.index("r_elbow")] > 1
    assert page.inner_text("#fixed-note").startswith("Fixed: right wrist")
    page.click("#undo")
    np.testing.assert_array_equal(pose_of(page).keypoints, before.keypoints)


def test_double_click_and_delete_free_a_joint(page):
    drag(page, "l_wrist", 60, -30)
    drag(page, "l_ankle", 40, 20)
    assert pose_of(page).known == ("l_ankle", "l_wrist")
    page.mouse.dblclick(*centre(page, "l_wrist"))
    assert pose_of(page).known == ("l_ankle",)
    page.focus("[data-joint=l_ankle]")
    page.keyboard.press("Delete")
    assert pose_of(page).known == ()


def test_keys_move_a_joint_and_change_the_mass(page):
    before = pose_of(page)
    page.focus("[data-joint=r_elbow]")
    for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.press("+")
    document = document_of(page)
    after, elbow = Pose.from_dict(document["people"][0]), before.names.index("r_elbow")
    moved = after.keypoints[elbow] - before.keypoints[elbow]
    assert after.known == ("r_elbow",)
    assert moved[0] < 0
    assert moved[1] < 3 * moved[0]
    assert document["mass"] == 0.55
    page.keyboard.press("Control+z")
    assert pose_of(page).known == ()


def test_joints_have_names_and_numbers_for_those_who_cannot_see_them(page):
    label = page.locator("[data-joint=l_knee]")
    page.wait_for_selector("[data-joint=l_knee][aria-label]", state="attached")
    assert label.get_attribute("aria-label").startswith("left knee, expected error")
    page.focus("[data-joint=l_knee]")
    page.keyboard.press("Enter")
    page.locator("#live", has_text="left knee fixed").wait_for(state="attached")


def test_mass_widens_the_ellipses(page):
    narrow = document_of(page)["people"][0]["keypoints"]
    page.locator("#mass").fill("95")
    document = document_of(page)
    assert document["mass"] == 0.95
    wide, pose = document["people"][0]["keypoints"], Pose.from_dict(document["people"][0])
    for name in pose.names:
        assert wide[name]["ellipse"]["semi_major"] > narrow[name]["ellipse"]["semi_major"]
        assert wide[name]["ellipse"]["semi_major"] == pytest.approx(pose.ellipse(name, 0.95)[1][0], rel=1e-3)


def test_picture_is_saved_with_the_pose_on_it(page):
    page.wait_for_selector("#save-png:enabled")
    with page.expect_download() as download:
        page.click("#save-png")
    assert download.value.suggested_filename == "sample_pose.png"
    saved = cv2.imread(str(download.value.path()))
    assert saved.shape[0] == saved.shape[1] >= 512
    plain = cv2.resize(cv2.imread(str(SAMPLE)), saved.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    changed = (np.abs(saved.astype(int) - plain).max(axis=2) > 40).mean()
    assert 0.02 < changed < 0.4


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("broken.jpg", SAMPLE.read_bytes()[:200], "broken.jpg cannot be read as a picture"),
        ("notes.txt", b"no picture", "notes.txt is no picture"),
        ("empty.png", b"", "empty.png is empty"),
    ],
)
def test_bad_file_costs_one_line_and_the_page_goes_on(page, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    choose(page, tmp_path / name)
    page.wait_for_selector("#notice", state="visible")
    assert said in page.inner_text("#notice")
    drag(page, "r_wrist", 20, 30)
    assert pose_of(page).known == ("r_wrist",)


def test_no_camera_and_a_camera_that_is_not_allowed_are_said(page, visit, launch):
    page.click("#camera")
    page.wait_for_selector("#notice", state="visible", timeout=WAIT)
    assert "camera" in page.inner_text("#notice")
    denied = visit(launch("--use-fake-device-for-media-stream", "--deny-permission-prompts"), ready=False)
    denied.click("#camera")
    denied.wait_for_selector("#notice", state="visible", timeout=WAIT)
    assert "not allowed" in denied.inner_text("#notice")
    drag(denied, "r_wrist", 20, 30)
    assert pose_of(denied).known == ("r_wrist",)


@pytest.fixture(scope="module")
def camera_film(tmp_path_factory) -> Path:
    """A second of the sample that moves to and fro, as a camera gives it."""
    path = tmp_path_factory.mktemp("film") / "camera.mjpeg"
    image, frames = cv2.imread(str(SAMPLE)), []
    for step in range(20):
        shift = np.float64([[1, 0, 10 * np.sin(step * np.pi / 10)], [0, 1, 0]])
        frames.append(cv2.imencode(".jpg", cv2.warpAffine(image, shift, (512, 512)))[1].tobytes())
    path.write_bytes(b"".join(frames))
    return path


def test_camera_is_followed_and_can_be_held_still(visit, launch, camera_film, estimator):
    browser = launch(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera_film}",
    )
    page = visit(browser)
    page.click("#camera")
    page.wait_for_selector("#stage[data-picture='camera.png']", timeout=WAIT)
    page.wait_for_selector("#save-json:enabled", timeout=WAIT)
    page.click("#freeze")
    held = pose_of(page)
    page.wait_for_timeout(300)
    np.testing.assert_array_equal(pose_of(page).keypoints, held.keypoints)  # Though the film goes on.
    drag(page, "neck", 10, 5)
    assert pose_of(page).known == ("neck",)
    with page.expect_download() as download:
        page.click("#save-json")
    assert json.loads(Path(download.value.path()).read_text())["image"] == "camera.png"
    page.click("#camera")
    assert page.is_hidden("#freeze")
