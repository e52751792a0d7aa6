/** What a multiply-add weighs: the gate picks argmax(score − λ·MAdds/widest MAdds). Negative λ asks for more than it would spend. */
export function costBias(lambda: number, madds: readonly number[]): number[] {
  const widest = madds[madds.length - 1]!;
  return madds.map((cost) => (-lambda * cost) / widest);
}
