"""Overlays on pictures: poses with the regions that hold their joints, what moves with a joint, contact sheets.

Everything is drawn in the pixels of a canvas, which is the picture or an enlarged copy; lines and letters take their size from
it. Shapes are antialiased masks that are mixed into the canvas, with coordinates to a sixteenth of a pixel.
"""

from posecov.drawing.correlations import draw_correlations
from posecov.drawing.overlay import draw_poses
from posecov.drawing.palette import CENTRE, INK, LEFT, RIGHT, Colour, side_of

__all__ = ["CENTRE", "INK", "LEFT", "RIGHT", "Colour", "draw_correlations", "draw_poses", "side_of"]
