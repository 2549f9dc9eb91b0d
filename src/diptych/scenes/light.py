"""Light on the drawing and the camera's sensor: from part numbers to a photo."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.images import Pixels
from diptych.scenes.drawing import EYE, FINE, PART, Drawing, sum_of_points
from diptych.scenes.layout import LAMP_HEIGHT, Light, Street

Array = NDArray[np.float32]
Indices = NDArray[np.intp]


@lru_cache(maxsize=1)
def textures() -> tuple[Array, Array]:
    """Two endless patterns with mean 0 and deviation 1, 512x512: fine grain and soft clouds."""
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None]) * 512 + 1
    white = np.fft.rfft2(np.random.default_rng(0).standard_normal((512, 512)))
    grain, clouds = (np.fft.irfft2(white / frequency**power) for power in (0.6, 1.7))
    return (grain / grain.std()).astype(np.float32), (clouds / clouds.std()).astype(np.float32)


def look_up(texture: Array, across: Array, along: Array) -> Array:
    """The endless `texture` at whole steps; truncation would mirror it at 0, which is moved out of sight."""
    found: Array = texture[(along + 9999).astype(np.int32) & 511, (across + 9999).astype(np.int32) & 511]
    return found


def shine(drawing: Drawing, noise: np.random.Generator) -> Array:
    """Put colour and light on every point of the drawing: linear light, float32 (3, H, W)."""
    light, street, (grain, _) = drawing.light, drawing.street, textures()
    table = np.array(drawing.parts, PART)
    part = np.asarray(drawing.sheet)  # (h, w), FINE times the size of the photo
    u = ((np.arange(drawing.width, dtype=np.float32) + 0.5 - drawing.centre) / drawing.focal)[None]
    v = ((np.arange(drawing.height, dtype=np.float32) + 0.5 - drawing.horizon) / drawing.focal)[:, None]
    a, b, c = table["plane"].T.take(part, 1)
    z = 1 / np.maximum(a * u + b * v + c, 1e-3)
    x, y, ground = u * z - street.bend * z * z, EYE - v * z, b != 0
    across, up = np.where(a != 0, z, x), np.where(ground, z, y)  # metres along the surface

    rough = np.array([0, 0.07, 0.07 if street.town else 0.15, 0.06, 0.20, 0.01, 0.05], np.float32)
    uneven = look_up(grain, across * 15, up * 15) + look_up(grain, across, up)
    colour = table["colour"].T.take(part, 1) * (1 + rough[table["row"]][part] * uneven).clip(0.3, 1.7)  # (3, h, w)
    glow = table["glow"][part] * colour
    paint_ground(street, np.flatnonzero(ground), x, z, colour)
    glazed = np.flatnonzero(table["windows"][part, 0])
    paint_windows(light, glazed, part, table["windows"], across, up, colour, glow)

    shade = np.asarray(drawing.shade)
    sunny = table["sunlit"][part] * ~(ground & (shade > 0))
    open_sky = np.where(ground, 1 - np.float32(0.25) * shade, (0.65 + 0.12 * y).clip(0.55, 1))
    clear = np.exp(z * (-1 / light.visibility))
    lamps = light.lamps * lamplight(street, u, v, x, y, z) if light.lamps else np.zeros_like(z)
    linear = np.empty_like(colour)
    for channel, warm in enumerate((1.0, 0.72, 0.42)):
        falling = light.sun[channel] * sunny + light.ambient[channel] * open_sky + warm * lamps
        haze = 0.85 * light.horizon[channel]
        linear[channel] = (colour[channel] ** 2 * falling + glow[channel] - haze) * clear + haze
    paint_sky(light, np.flatnonzero(part == 0), u, v, noise, linear)
    return sum_of_points(linear * np.float32(1 / FINE**2))


def paint_ground(street: Street, spots: Indices, x: Array, z: Array, colour: Array) -> None:
    """Markings, kerbs, slabs, lawns and fields, at the flat indices `spots` of `colour` (3, h, w)."""
    x, z = x.ravel()[spots], z.ravel()[spots]
    off = np.abs(x - street.middle)
    road, beyond = off < street.half_road, off > street.half_road + street.pavement
    edge = street.half_road - (2.2 if street.half_road > 4.5 else 0.25)
    marked = (off < 0.08) & (z % 9 < 4.5) | (np.abs(off - edge) < 0.07)
    marked |= (z > street.crossing) & (z < street.crossing + 3) & (x % 1 < 0.5)
    tint = np.ones((3, len(spots)), np.float32)
    tint[:, road & marked] = 2.0
    if street.town:
        tint[:, ((x % 0.8 < 0.06) | (z % 0.8 < 0.06)) & ~road & (z < 16)] = 0.88
        tint[:, ~road & (off < street.half_road + 0.25)] = 1.18
        tint[:, beyond] = np.array(street.grass)[:, None] * 1.5
    else:
        crop = look_up(textures()[0], x[beyond] / 28, z[beyond] / 45)
        furrows = 1 + 0.07 * np.sin(x[beyond] * 5)
        tint[:, beyond] = np.stack([1 + 0.22 * crop, 1 + 0.05 * crop, 1 - 0.1 * crop]) * furrows
        tint[:, ~road & (off < street.half_road + 0.5)] = ((1.1,), (0.95,), (1.3,))
    flat = colour.reshape(3, -1)
    flat[:, spots] = (flat[:, spots] * tint).clip(0, 0.92)


def paint_windows(
    light: Light, spots: Indices, part: Indices, windows: Array, across: Array, up: Array, colour: Array, glow: Array
) -> None:
    """Panes and shop windows, at the flat indices `spots`: dark with a gleam of sky by day, many lit after dusk."""
    number = part.ravel()[spots]
    bay, storey, wide, tall, start, wall, shops = windows[number].T
    high = up.ravel()[spots]
    column, floor = (across.ravel()[spots] - start) / bay, high / storey
    shop = (floor < 1) & (shops > 0)
    from_middle = np.abs(column % 1 - 0.5) / np.where(shop, 0.9, wide)
    from_centre = np.abs(floor % 1 - np.where(shop, 0.42, 0.55)) / np.where(shop, 0.66, tall)
    frame = (from_middle < 0.62) & (from_centre < 0.6) & (high < wall - 0.5) & (high > 0.3)
    pane = frame & (from_middle < 0.5) & (from_centre < 0.5)
    dice = look_up(textures()[0], np.floor(column) * 37 + number * 91, np.floor(floor) * 53 + number)
    lit = pane & ((dice > 0.6) | shop)
    flat, shining = colour.reshape(3, -1), glow.reshape(3, -1)
    flat[:, spots[frame]] = np.minimum(flat[:, spots[frame]] * 1.2, 0.9)
    flat[:, spots[pane]] = 0.2
    shining[:, spots[pane]] = np.array(light.horizon)[:, None] * (0.03 + 0.06 * np.abs(dice) + 0.1 * (floor % 1))[pane]
    shining[:, spots[lit]] += np.array([[1.0], [0.66], [0.32]]) * light.lamps * (0.5 + 0.25 * (dice[lit] % 2))


def lamplight(street: Street, u: Array, v: Array, x: Array, y: Array, z: Array) -> Array:
    """What our own head lamps, and in town the street lamps, throw on each point."""
    lit: Array = np.exp(-((u / 0.4) ** 2)) * 1.6 / ((1 + np.exp((-60 * (v + 0.02)).clip(max=50))) * (1 + (z / 11) ** 2))
    if street.town:
        below = np.maximum(LAMP_HEIGHT + 0.3 - y, 0)
        ahead = (z % street.lamp_spacing - street.lamp_spacing / 2) ** 2 + below**2 + 1
        for side in (-1, 1):
            beside = x - (street.middle + side * (street.half_road - 0.75))
            lit += 55 * below / (ahead + beside**2) ** 1.5
    return lit


def paint_sky(light: Light, spots: Indices, u: Array, v: Array, noise: np.random.Generator, linear: Array) -> None:
    """A gradient, the sun or the moon and its glow, stars and clouds, at the flat indices `spots`."""
    rows, columns = np.divmod(spots, u.shape[1])
    x, y = u[0, columns], -v[rows, 0]  # the ray is (x, y, 1), y up
    sx, sy, sz = light.towards_sun
    near_sun = ((x * sx + y * sy + sz) / np.sqrt(x * x + y * y + 1)).clip(0, 1)
    glow = 0.5 * near_sun**8 + 2 * near_sun**128 + 18 * (near_sun > 0.9996)
    level, reach = np.exp(-4.5 * y), 1 / (y + 0.15)
    start_x, start_z = noise.uniform(0, 512, 2).tolist()
    density = look_up(textures()[1], x * reach * 30 + start_x, reach * 45 + start_z)
    cover = (1.3 * density + 3 * light.clouds - 1.8).clip(0, 1 if light.clouds else 0)
    stars = np.zeros_like(x)
    if light.lamps == 1:
        stars[noise.random(len(x)) < 0.0015] = 0.6
    flat = linear.reshape(3, -1)
    for channel in range(3):
        sun, zenith, horizon = light.sun[channel], light.zenith[channel], light.horizon[channel]
        clear = zenith + (horizon - zenith) * level + sun * glow + stars
        cloud = (0.45 * sun + 1.15 * light.ambient[channel]) * (0.9 - 0.1 * density) + sun * near_sun**8
        flat[channel, spots] = clear + (cloud - clear) * cover


def expose(linear: Array, noise: np.random.Generator) -> Pixels:
    """Linear light (3, H, W) -> a photo: lens glow and softness, exposure, white balance, film curve, sensor noise."""
    height, width = linear.shape[1:]
    for plane in linear:
        excess = Image.fromarray((plane - 0.8).clip(0, 4))
        small = excess.resize((max(width // 8, 4), max(height // 8, 4)), Image.Resampling.BOX)
        plane += 0.5 * np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    wide = np.pad(linear, ((0, 0), (1, 1), (1, 1)), mode="edge")
    soft = 0.76 * linear + 0.06 * (wide[:, 1:-1, 2:] + wide[:, 1:-1, :-2] + wide[:, 2:, 1:-1] + wide[:, :-2, 1:-1])
    corners = np.linspace(-1, 1, height)[:, None] ** 2 + np.linspace(-1, 1, width)[None] ** 2
    gain = noise.uniform(1.1, 1.7) * noise.uniform(0.95, 1.05, (3, 1, 1)) * (1 - 0.1 * corners)
    shown = np.sqrt(1 - np.exp(-soft * gain))
    shown += 0.35 * shown * (1 - shown) * (2 * shown - 1)  # film darkens the shadows and lifts the lights
    grain = noise.standard_normal((4, height, width), np.float32) * noise.uniform(0.004, 0.011)
    pixels = ((shown + grain[:3] + grain[3]) * 255).round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
