/**
 * The static envelope: the best expected top-1 that one weight set reaches for at most a given mean cost without looking
 * at the image. Mixing two widths at random is free, so it is the upper concave envelope of the widths' (MAdds, top-1)
 * points; and nobody need spend a whole budget, so it never falls: past its highest point it stays level.
 */
export interface StaticPoint {
  width: number;
  madds: number;
  accuracy: number;
}

/** A share `weight` of the samples at `above`, the rest at `below`. */
export interface Mixture {
  below: StaticPoint;
  above: StaticPoint;
  weight: number;
  madds: number;
  accuracy: number;
}

/** The envelope's corners, cheapest first. `points` come in ascending MAdds. */
export function upperEnvelope(points: readonly StaticPoint[]): StaticPoint[] {
  const corners: StaticPoint[] = [];
  for (const point of points) {
    while (corners.length > 1 && slope(corners.at(-1)!, point) >= slope(corners.at(-2)!, corners.at(-1)!))
      corners.pop();
    corners.push(point);
  }
  const best = Math.max(...corners.map((corner) => corner.accuracy));
  return corners.slice(0, corners.findIndex((corner) => corner.accuracy === best) + 1);
}

/** What to mix for a mean cost of at most `madds`; below the slimmest width, the slimmest (nothing static is cheaper). */
export function envelopeAt(corners: readonly StaticPoint[], madds: number): Mixture {
  const above = corners.find((corner) => corner.madds >= madds) ?? corners.at(-1)!;
  const below = corners.findLast((corner) => corner.madds <= madds) ?? corners[0]!;
  const weight = above === below ? 0 : (madds - below.madds) / (above.madds - below.madds);
  return {
    below,
    above,
    weight,
    madds: below.madds + weight * (above.madds - below.madds),
    accuracy: below.accuracy + weight * (above.accuracy - below.accuracy),
  };
}

/** Top-1 gained per MAdd between two points. */
export function slope(from: StaticPoint, to: StaticPoint): number {
  return from.madds === to.madds ? 0 : (to.accuracy - from.accuracy) / (to.madds - from.madds);
}
