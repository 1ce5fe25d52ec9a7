// One person's keypoints and covariance without posecov (../FORMAT.md), from a model with the crop map inside (...-whole.onnx):
//   npm install onnxruntime-node sharp && node consumer.mjs MODEL-whole.onnx PICTURE X Y WIDTH HEIGHT
// (with ONNXRUNTIME_NODE_INSTALL=skip it fetches no libraries for GPUs, which come from NuGet)
import ort from 'onnxruntime-node'
import sharp from 'sharp'

const [model, file, ...box] = process.argv.slice(2)
if (box.length !== 4 || box.some((value) => !Number.isFinite(Number(value)))) {
  console.error('usage: node consumer.mjs MODEL-whole.onnx PICTURE X Y WIDTH HEIGHT')
  process.exit(2)
}

const { data, info } = await sharp(file).rotate().removeAlpha().toColourspace('srgb').raw().toBuffer({ resolveWithObject: true })
const session = await ort.InferenceSession.create(model)
const { keypoints, covariance, weights } = await session.run({
  picture: new ort.Tensor('uint8', data, [info.height, info.width, 3]), // RGB
  box: new ort.Tensor('float32', Float32Array.from(box, Number), [4]),
})

const [joints] = keypoints.dims
const variance = (row) => covariance.data[row * 2 * joints + row]
for (let joint = 0; joint < joints; joint++) {
  const [x, y] = keypoints.data.slice(2 * joint, 2 * joint + 2)
  const sigma = Math.sqrt((variance(2 * joint) + variance(2 * joint + 1)) / 2)
  console.log(`joint ${joint}: ${x.toFixed(1)} ${y.toFixed(1)}  +- ${sigma.toFixed(1)} px`)
}
if (weights) console.log(`left and right as shown: ${(100 * weights.data[0]).toFixed(1)} %`)
