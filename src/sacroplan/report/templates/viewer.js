// The 3D scene of a dossier. WebGL 2, no library, nothing fetched. Directions follow the patient:
// axes are left, posterior, superior of the pelvis; the camera is fixed to them.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const add = (a, b, k = 1) => [a[0] + k * b[0], a[1] + k * b[1], a[2] + k * b[2]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [
    a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  const radians = (degrees) => degrees * Math.PI / 180;

  // ---------------------------------------------------------------- data
  async function unpack(header) {
    const text = atob($("scene-data").textContent.trim());
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    let at = 0;
    const plane = (n) => bytes.subarray(at, at += n);
    const sums16 = (n) => {
      const low = plane(n), high = plane(n), out = new Uint16Array(n);
      for (let i = 0, v = 0; i < n; i++) out[i] = v = v + (low[i] | high[i] << 8) & 65535;
      return out;
    };
    const words32 = (n) => {
      const b = [plane(n), plane(n), plane(n), plane(n)], out = new Uint32Array(n);
      for (let i = 0; i < n; i++) out[i] = b[0][i] | b[1][i] << 8 | b[2][i] << 16 | b[3][i] << 24;
      return out;
    };
    return header.parts.map((part) => {
      const n = part.vertices, m = part.faces;
      const q = [sums16(n), sums16(n), sums16(n)];
      const position = new Float32Array(3 * n), low = [1e9, 1e9, 1e9], high = [-1e9, -1e9, -1e9];
      for (let k = 0; k < 3; k++) {
        for (let i = 0; i < n; i++) {
          const x = part.low[k] - header.centre[k] + q[k][i] * part.step[k];
          position[3 * i + k] = x;
          if (x < low[k]) low[k] = x;
          if (x > high[k]) high[k] = x;
        }
      }
      const ox = plane(n), oy = plane(n), sky = plane(n), look = new Uint8Array(4 * n);
      for (let i = 0; i < n; i++) {
        look[4 * i] = ox[i]; look[4 * i + 1] = oy[i]; look[4 * i + 2] = sky[i];
      }
      const first = words32(m), second = words32(m), third = words32(m);
      const index = new Uint32Array(3 * m);
      for (let i = 0, a = 0; i < m; i++) {
        a += first[i];
        index[3 * i] = a; index[3 * i + 1] = a + second[i]; index[3 * i + 2] = a + third[i];
      }
      const middle = [0, 1, 2].map((k) => (low[k] + high[k]) / 2);
      const radius = Math.hypot(...[0, 1, 2].map((k) => (high[k] - low[k]) / 2));
      return {...part, position, look, index, middle, radius, low, high, on: part.visible,
        alpha: part.opacity};
    });
  }

  // ---------------------------------------------------------------- shaders
  const VERTEX = `#version 300 es
    precision highp float;
    layout(location = 0) in vec3 position;
    layout(location = 1) in vec4 look;
    uniform mat4 camera; uniform mat3 turn;
    out vec3 normal; out vec3 place; out float sky;
    invariant gl_Position;
    void main() {
      vec2 o = vec2(look.x > 127.5 ? look.x - 256.0 : look.x,
                    look.y > 127.5 ? look.y - 256.0 : look.y) / 127.0;
      vec3 n = vec3(o, 1.0 - abs(o.x) - abs(o.y));
      if (n.z < 0.0) n.xy = (1.0 - abs(n.yx)) * vec2(n.x < 0.0 ? -1.0 : 1.0, n.y < 0.0 ? -1.0 : 1.0);
      normal = turn * normalize(n);
      place = position;
      sky = look.z / 255.0;
      gl_Position = camera * vec4(position, 1.0);
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec3 normal; in vec3 place; in float sky;
    uniform vec3 colour; uniform float alpha, metal, chosen, capped; uniform vec4 clip;
    uniform vec3 clipNormal; uniform vec4 lights[3];
    out vec4 pixel;
    vec3 encode(vec3 x) {
      x = clamp(x, 0.0, 1.0);
      return mix(12.92 * x, 1.055 * pow(x, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, x));
    }
    void main() {
      bool cap = capped > 0.5;
      if (!cap && dot(clip.xyz, place) > clip.w) discard;
      vec3 n = normalize(normal);
      if (cap) n = clipNormal;
      if (n.z < 0.0) n = -n;
      float open = cap ? 1.0 : sky;
      float diffuse = 0.0, shine = 0.0;
      float gloss = 0.10 + 0.35 * metal, power = 24.0 + 24.0 * metal;
      for (int i = 0; i < 3; i++) {
        float d = dot(n, lights[i].xyz);
        if (d > 0.0) {
          diffuse += lights[i].w * d;
          float h = dot(n, normalize(lights[i].xyz + vec3(0.0, 0.0, 1.0)));
          if (h > 0.0) shine += lights[i].w * gloss * pow(h, power);
        }
      }
      float light = diffuse * (0.35 + 0.65 * open) + (0.20 + 0.10 * n.y) * open * open;
      light *= mix(0.62, 1.0, smoothstep(0.0, 0.34, n.z));
      vec3 base = cap ? colour * 0.72 : colour;
      vec3 c = base * light + (cap ? 0.0 : shine * open * open);
      c = mix(c, vec3(1.0, 0.75, 0.15), chosen * (0.10 + 0.45 * pow(1.0 - n.z, 2.0)));
      float a = alpha < 1.0 ? 1.0 - pow(1.0 - alpha, 1.0 / max(n.z, 0.2)) : 1.0;
      pixel = vec4(encode(c) * a, a);
    }`;

  function program(gl) {
    const p = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const s = gl.createShader(kind);
      gl.shaderSource(s, source);
      gl.compileShader(s);
      if (!gl.getShaderParameter(s, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(s));
      gl.attachShader(p, s);
    }
    gl.linkProgram(p);
    if (!gl.getProgramParameter(p, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(p));
    const uniforms = {};
    const count = gl.getProgramParameter(p, gl.ACTIVE_UNIFORMS);
    for (let i = 0; i < count; i++) {
      const name = gl.getActiveUniform(p, i).name;
      uniforms[name.replace("[0]", "")] = gl.getUniformLocation(p, name);
    }
    return {p, uniforms};
  }

  // ---------------------------------------------------------------- state
  // Turn about the patient's long axis and height of the viewer, degrees: the preset directions.
  const PRESETS = {front: [0, 0], back: [180, 0], left: [90, 0], right: [-90, 0], top: [180, 90],
    bottom: [0, -90], oblique: [35, 24.2]};
  const CLIPS = {sagittal: 0, coronal: 1, axial: 2};
  const FIELD = radians(24);
  const LETTERS = [["L", "R"], ["P", "A"], ["S", "I"]];

  function start(header, parts) {
    const canvas = $("scene-canvas"), labels = $("scene-labels"), box = $("scene-stage");
    const gl = canvas.getContext("webgl2", {antialias: true, alpha: true, stencil: true, preserveDrawingBuffer: true});
    if (!gl) throw new Error("WebGL 2 is not available");
    const pen = labels.getContext("2d");
    const {p, uniforms: u} = program(gl);
    const axes = header.axes;  // three LPS unit vectors: left, posterior, superior
    const toWorld = (a) => add(add(axes[0].map((x) => x * a[0]), axes[1], a[1]), axes[2], a[2]);
    const toLocal = (a) => axes.map((x) => dot(x, a));
    const linear = (hex) => [1, 3, 5].map((i) => {
      const s = parseInt(hex.slice(i, i + 2), 16) / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    for (const part of parts) {
      part.light = linear(part.colour);
      part.vao = gl.createVertexArray();
      gl.bindVertexArray(part.vao);
      const buffer = (target, data) => {
        gl.bindBuffer(target, gl.createBuffer());
        gl.bufferData(target, data, gl.STATIC_DRAW);
      };
      buffer(gl.ARRAY_BUFFER, part.position);
      gl.enableVertexAttribArray(0);
      gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
      buffer(gl.ARRAY_BUFFER, part.look);
      gl.enableVertexAttribArray(1);
      gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, false, 0, 0);
      buffer(gl.ELEMENT_ARRAY_BUFFER, part.index);
    }
    // The clip plane as a large square; its "look" is a constant, the shader knows its normal.
    const square = {vao: gl.createVertexArray(), points: gl.createBuffer()};
    gl.bindVertexArray(square.vao);
    gl.bindBuffer(gl.ARRAY_BUFFER, square.points);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
    gl.bindVertexArray(null);

    const view = {turn: 0, height: 0, scale: 1, target: [0, 0, 0], perspective: false,
      clip: "", clipAt: 0.5, clipFlip: false};
    let chosen = null, lastPoint = null, marks = [], queued = false;

    // Extent of the parts along a direction, from their boxes' corners.
    function extent(which, direction) {
      let low = Infinity, high = -Infinity;
      for (const part of which) {
        for (let c = 0; c < 8; c++) {
          const corner = [0, 1, 2].map((k) => (c >> k & 1 ? part.high : part.low)[k]);
          const x = dot(corner, direction);
          low = Math.min(low, x); high = Math.max(high, x);
        }
      }
      return [low, high];
    }
    const shownOrAll = () => parts.some((x) => x.on) ? parts.filter((x) => x.on) : parts;
    function camera() {
      const a = radians(view.turn), h = radians(view.height);
      const right = toWorld([Math.cos(a), Math.sin(a), 0]);
      const toward = toWorld([Math.sin(a) * Math.cos(h), -Math.cos(a) * Math.cos(h), Math.sin(h)]);
      return {right, up: cross(toward, right), toward};
    }
    function fit(which = shownOrAll()) {
      const {right, up, toward} = camera();
      const [x, y, z] = [extent(which, right), extent(which, up), extent(which, toward)];
      view.target = [0, 0, 0];
      for (const [r, d] of [[x, right], [y, up], [z, toward]]) {
        view.target = add(view.target, d, (r[0] + r[1]) / 2);
      }
      const aspect = box.clientWidth / box.clientHeight || 1.5;
      view.scale = 0.56 * Math.max(y[1] - y[0], (x[1] - x[0]) / aspect, 1);
    }
    function preset(name, refit = true) {
      [view.turn, view.height] = PRESETS[name];
      if (refit) fit();
    }

    // -------------------------------------------------------------- drawing
    function matrices() {
      const {right, up, toward} = camera();
      const w = box.clientWidth, h = box.clientHeight, aspect = w / h;
      const reach = 2 * Math.max(...parts.map((x) => Math.hypot(...x.middle) + x.radius))
        + Math.hypot(...view.target);
      const rows = [right, up, toward].map((d) => [...d, -dot(d, view.target)]);
      const sx = 1 / (view.scale * aspect), sy = 1 / view.scale;
      let m;
      if (view.perspective) {
        const away = view.scale / Math.tan(FIELD / 2);
        const near = Math.max(away - reach, 0.02 * away), far = away + reach;
        const f = 1 / Math.tan(FIELD / 2);
        const eye = rows[2].slice(); eye[3] -= away;  // negative in front of the viewer
        m = [rows[0].map((x) => x * f / aspect), rows[1].map((x) => x * f),
          eye.map((x, i) => x * (far + near) / (near - far)
            + (i === 3 ? 2 * far * near / (near - far) : 0)), eye.map((x) => -x)];
      } else {
        m = [rows[0].map((x) => x * sx), rows[1].map((x) => x * sy),
          rows[2].map((x) => -x / reach), [0, 0, 0, 1]];
      }
      const columns = [];
      for (let c = 0; c < 4; c++) for (let r = 0; r < 4; r++) columns.push(m[r][c]);
      const turn = [];
      for (let c = 0; c < 3; c++) for (const d of [right, up, toward]) turn.push(d[c]);
      return {m, columns, turn, right, up, toward, w, h, aspect};
    }
    function clipPlane() {
      if (!view.clip) return [0, 0, 0, 1];
      const axis = axes[CLIPS[view.clip]];
      const [low, high] = extent(parts, axis);
      const at = low + view.clipAt * (high - low);
      // Parts of the positive side vanish, unless turned round.
      return view.clipFlip ? [...axis.map((x) => -x), -at] : [...axis, at];
    }
    function paint() {
      queued = false;
      const ratio = window.devicePixelRatio || 1;
      const w = Math.round(box.clientWidth * ratio), h = Math.round(box.clientHeight * ratio);
      for (const c of [canvas, labels]) if (c.width !== w || c.height !== h) { c.width = w; c.height = h; }
      const cam = matrices(), clip = clipPlane();
      gl.viewport(0, 0, w, h);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.useProgram(p);
      gl.enable(gl.DEPTH_TEST);
      gl.depthFunc(gl.LEQUAL);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.uniformMatrix4fv(u.camera, false, cam.columns);
      gl.uniformMatrix3fv(u.turn, false, cam.turn);
      gl.uniform4fv(u.lights, header.lights.flat());
      gl.uniform4fv(u.clip, clip);
      const n = clip.slice(0, 3);
      gl.uniform3f(u.clipNormal, dot(n, cam.right), dot(n, cam.up), dot(n, cam.toward));
      const draw = (part) => {
        gl.uniform3fv(u.colour, part.light);
        gl.uniform1f(u.alpha, part.alpha);
        gl.uniform1f(u.metal, part.metal ? 1 : 0);
        gl.uniform1f(u.chosen, part === chosen ? 1 : 0);
        gl.uniform1f(u.capped, 0);
        if (part.closed) gl.enable(gl.CULL_FACE); else gl.disable(gl.CULL_FACE);
        gl.bindVertexArray(part.vao);
        gl.drawElements(gl.TRIANGLES, part.index.length, gl.UNSIGNED_INT, 0);
      };
      // The cut face of a solid: where more back than front faces remain along the line of sight,
      // the plane lies inside it (counted in the stencil), and the square is drawn there.
      if (view.clip) {
        const size = 4 * Math.max(...parts.map((x) => Math.hypot(...x.middle) + x.radius));
        const [a, b] = [axes[(CLIPS[view.clip] + 1) % 3], axes[(CLIPS[view.clip] + 2) % 3]];
        const middle = n.map((x) => x * clip[3]);
        const corner = (s, t) => add(add(middle, a, s * size), b, t * size);
        gl.bindBuffer(gl.ARRAY_BUFFER, square.points);
        gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(
          [corner(-1, -1), corner(1, -1), corner(-1, 1), corner(1, 1)].flat()), gl.DYNAMIC_DRAW);
      }
      const cap = (part) => {
        if (!view.clip || !part.closed) return;
        const blended = gl.isEnabled(gl.BLEND);
        gl.clear(gl.STENCIL_BUFFER_BIT);
        gl.enable(gl.STENCIL_TEST);
        gl.colorMask(false, false, false, false);
        gl.depthMask(false);
        gl.disable(gl.DEPTH_TEST);
        gl.disable(gl.CULL_FACE);
        gl.stencilFunc(gl.ALWAYS, 0, 255);
        gl.stencilOpSeparate(gl.BACK, gl.KEEP, gl.KEEP, gl.INCR_WRAP);
        gl.stencilOpSeparate(gl.FRONT, gl.KEEP, gl.KEEP, gl.DECR_WRAP);
        gl.uniform1f(u.capped, 0);
        gl.bindVertexArray(part.vao);
        gl.drawElements(gl.TRIANGLES, part.index.length, gl.UNSIGNED_INT, 0);
        gl.enable(gl.DEPTH_TEST);
        gl.depthMask(true);
        gl.colorMask(true, true, true, true);
        gl.stencilFunc(gl.NOTEQUAL, 0, 255);
        gl.stencilOp(gl.KEEP, gl.KEEP, gl.KEEP);
        if (blended) gl.enable(gl.BLEND);
        gl.uniform1f(u.capped, 1);
        gl.bindVertexArray(square.vao);
        gl.vertexAttrib4f(1, 0, 0, 255, 0);
        gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
        gl.disable(gl.STENCIL_TEST);
      };
      const shown = parts.filter((x) => x.on && x.alpha > 0.01);
      gl.disable(gl.BLEND);
      gl.depthMask(true);
      // Large bodies first: where two cut faces coincide, the smaller body's shows.
      shown.filter((x) => x.alpha >= 0.995).sort((a, b) => b.radius - a.radius)
        .forEach((x) => { draw(x); cap(x); });
      // Glass: far bodies first, enclosing bodies last; of each body only its nearest sheet, so the
      // picture does not depend on the order of triangles.
      const nearest = (x) => dot(x.middle, cam.toward) + x.radius;
      for (const part of shown.filter((x) => x.alpha < 0.995).sort((a, b) => nearest(a) - nearest(b))) {
        gl.colorMask(false, false, false, false);
        gl.disable(gl.BLEND);
        draw(part);
        gl.colorMask(true, true, true, true);
        gl.enable(gl.BLEND);
        draw(part);
        cap(part);
      }
      gl.bindVertexArray(null);
      annotate(cam, ratio);
      canvas.dataset.shown = shown.map((x) => x.name).join(" ");
      canvas.dataset.direction = [cam.right, cam.up].map((d) => letters(d)).join(" ");
      canvas.dataset.turn = `${view.turn} ${view.height}`;
    }
    const repaint = () => { if (!queued) { queued = true; requestAnimationFrame(paint); } };

    // Same rule as the still pictures: leading letter, then those within reach.
    function letters(direction) {
      const local = toLocal(direction);
      return [0, 1, 2].sort((a, b) => Math.abs(local[b]) - Math.abs(local[a]))
        .filter((k, i) => i === 0 || Math.abs(local[k]) > header.second_letter_cosine)
        .map((k) => LETTERS[k][local[k] > 0 ? 0 : 1]).join("");
    }
    function project(point, cam) {
      const [x, y, , w] = cam.m.map((r) => r[0] * point[0] + r[1] * point[1] + r[2] * point[2] + r[3]);
      return [(x / w * 0.5 + 0.5) * cam.w, (0.5 - y / w * 0.5) * cam.h];
    }
    function annotate(cam, ratio) {
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, cam.w, cam.h);
      const neg = (a) => a.map((x) => -x);
      pen.fillStyle = "#33475b";
      pen.textAlign = "center"; pen.textBaseline = "middle";
      pen.font = "600 16px system-ui, sans-serif";
      pen.fillText(letters(neg(cam.right)), 20, cam.h / 2);
      pen.fillText(letters(cam.right), cam.w - 20, cam.h / 2);
      pen.fillText(letters(cam.up), cam.w / 2, 18);
      pen.fillText(letters(neg(cam.up)), cam.w / 2, cam.h - 18);
      if (!view.perspective) {
        const px = cam.h / (2 * view.scale);
        const longest = 0.2 * cam.w / px, power = 10 ** Math.floor(Math.log10(longest));
        const mm = Math.max(...[1, 2, 5].map((f) => f * power).filter((x) => x <= longest * 1.000001));
        const x1 = cam.w - 18, x0 = x1 - mm * px, y = cam.h - 18;
        pen.strokeStyle = "#33475b"; pen.lineWidth = 2;
        pen.beginPath();
        pen.moveTo(x0, y - 4); pen.lineTo(x0, y + 4); pen.moveTo(x0, y); pen.lineTo(x1, y);
        pen.moveTo(x1, y - 4); pen.lineTo(x1, y + 4);
        pen.stroke();
        pen.font = "500 12px system-ui, sans-serif";
        pen.fillText(`${mm} mm`, (x0 + x1) / 2, y - 11);
      }
      compass(cam);
      if (marks.length) {
        const at = marks.map((m) => project(m, cam));
        pen.strokeStyle = "#c2410c"; pen.fillStyle = "#c2410c"; pen.lineWidth = 1.5;
        pen.beginPath(); pen.moveTo(...at[0]);
        at.slice(1).forEach((q) => pen.lineTo(...q));
        pen.stroke();
        for (const q of at) { pen.beginPath(); pen.arc(...q, 3.5, 0, 7); pen.fill(); }
      }
    }
    const compassAt = () => [58, box.clientHeight - 62], REACH = 34;
    function tips(cam) {
      return axes.flatMap((axis, k) => [1, -1].map((sign) => ({
        letter: LETTERS[k][sign > 0 ? 0 : 1],
        name: [["left", "right"], ["back", "front"], ["top", "bottom"]][k][sign > 0 ? 0 : 1],
        x: compassAt()[0] + sign * REACH * dot(axis, cam.right),
        y: compassAt()[1] - sign * REACH * dot(axis, cam.up),
        depth: sign * dot(axis, cam.toward), k,
      }))).sort((a, b) => a.depth - b.depth);
    }
    function compass(cam) {
      const [cx, cy] = compassAt(), hues = ["#b4413c", "#3a7d44", "#2b62a8"];
      for (const tip of tips(cam)) {
        pen.globalAlpha = 0.55 + 0.45 * (tip.depth + 1) / 2;
        pen.strokeStyle = pen.fillStyle = hues[tip.k];
        pen.lineWidth = 2;
        pen.beginPath(); pen.moveTo(cx, cy); pen.lineTo(tip.x, tip.y); pen.stroke();
        pen.beginPath(); pen.arc(tip.x, tip.y, 9.5, 0, 7);
        pen.fillStyle = tip.depth >= -0.05 ? hues[tip.k] : "#ffffff";
        pen.fill(); pen.stroke();
        pen.fillStyle = tip.depth >= -0.05 ? "#ffffff" : hues[tip.k];
        pen.font = "700 11px system-ui, sans-serif";
        pen.fillText(tip.letter, tip.x, tip.y + 0.5);
      }
      pen.globalAlpha = 1;
    }

    // -------------------------------------------------------------- picking
    // Nearest triangle under a point of the stage, tested one by one: exact, and quick enough.
    function hit(px, py) {
      const cam = matrices(), clip = clipPlane();
      const x = (2 * px / cam.w - 1) * view.scale * cam.aspect, y = (1 - 2 * py / cam.h) * view.scale;
      const far = 4 * Math.max(...parts.map((q) => Math.hypot(...q.middle) + q.radius)) + 100;
      let origin = add(add(view.target, cam.right, x), cam.up, y), way = cam.toward.map((v) => -v);
      if (view.perspective) {
        const eye = add(view.target, cam.toward, view.scale / Math.tan(FIELD / 2));
        way = add(origin, eye, -1);
        const length = Math.hypot(...way);
        way = way.map((v) => v / length);
        origin = eye;
      } else {
        origin = add(origin, cam.toward, far);
      }
      let best = {t: Infinity, part: null};
      for (const part of parts) {
        if (!part.on || part.alpha <= 0.01) continue;
        const centre = add(part.middle, origin, -1), along = dot(centre, way);
        if (dot(centre, centre) - along * along > part.radius * part.radius) continue;
        const v = part.position, f = part.index;
        for (let i = 0; i < f.length; i += 3) {
          const a = 3 * f[i], b = 3 * f[i + 1], c = 3 * f[i + 2];
          const e1x = v[b] - v[a], e1y = v[b + 1] - v[a + 1], e1z = v[b + 2] - v[a + 2];
          const e2x = v[c] - v[a], e2y = v[c + 1] - v[a + 1], e2z = v[c + 2] - v[a + 2];
          const qx = way[1] * e2z - way[2] * e2y, qy = way[2] * e2x - way[0] * e2z;
          const qz = way[0] * e2y - way[1] * e2x;
          const det = e1x * qx + e1y * qy + e1z * qz;
          if (Math.abs(det) < 1e-12) continue;
          const sx = origin[0] - v[a], sy = origin[1] - v[a + 1], sz = origin[2] - v[a + 2];
          const s = (sx * qx + sy * qy + sz * qz) / det;
          if (s < 0 || s > 1) continue;
          const rx = sy * e1z - sz * e1y, ry = sz * e1x - sx * e1z, rz = sx * e1y - sy * e1x;
          const r = (way[0] * rx + way[1] * ry + way[2] * rz) / det;
          if (r < 0 || s + r > 1) continue;
          const t = (e2x * rx + e2y * ry + e2z * rz) / det;
          if (t <= 0 || t >= best.t) continue;
          if (dot(clip, add(origin, way, t)) > clip[3]) continue;
          best = {t, part};
        }
      }
      return best.part ? {part: best.part, point: add(origin, way, best.t)} : null;
    }
    function cell(row, tag, text, cls) {
      const e = document.createElement(tag);
      e.textContent = text;
      if (cls) e.className = cls;
      row.append(e);
      return e;
    }
    function choose(found, measure) {
      const info = $("scene-info");
      info.replaceChildren();
      chosen = found ? found.part : null;
      info.hidden = !found;
      canvas.dataset.chosen = chosen ? chosen.name : "";
      if (found) {
        const lps = add(found.point, header.centre);
        cell(info, "h4", chosen.title);
        cell(info, "p", chosen.group, "group");
        if (chosen.note) cell(info, "p", chosen.note);
        if (chosen.figures.length) {
          const table = document.createElement("table");
          for (const f of chosen.figures) {
            const row = table.insertRow();
            cell(row, "td", f.label);
            cell(row, "td", `${f.value} ${f.unit}`.trim(), f.verdict || "plain");
          }
          info.append(table);
        }
        const words = lps.map((x) => x.toFixed(1).replace("-", "\u2212")).join(", ");
        cell(info, "p", `Point (LPS): ${words} mm`, "point");
        if (measure && lastPoint) {
          const d = Math.hypot(...add(found.point, lastPoint, -1));
          cell(info, "p", `Distance to the point before: ${d.toFixed(1)} mm`, "point");
          marks = [lastPoint, found.point];
        } else {
          marks = [found.point];
        }
        lastPoint = found.point;
      } else {
        marks = [];
        lastPoint = null;
      }
      repaint();
    }

    // -------------------------------------------------------------- controls
    const tree = $("scene-parts"), sync = [];
    const groups = [...new Set(parts.map((x) => x.group))];
    for (const group of groups) {
      const members = parts.filter((x) => x.group === group);
      const block = document.createElement("div");
      block.className = "group";
      const line = (title, which, swatch) => {
        const row = document.createElement("div");
        row.className = "row";
        const label = document.createElement("label");
        const tick = document.createElement("input");
        tick.type = "checkbox";
        label.append(tick);
        if (swatch) {
          const dotted = document.createElement("i");
          dotted.style.background = swatch;
          label.append(dotted);
        }
        label.append(title);
        const slider = document.createElement("input");
        Object.assign(slider, {type: "range", min: 5, max: 100, title: "Opacity"});
        slider.setAttribute("aria-label", `Opacity of ${title}`);
        tick.addEventListener("change", () => {
          which.forEach((x) => { x.on = tick.checked; }); update();
        });
        slider.addEventListener("input", () => {
          which.forEach((x) => { x.alpha = slider.value / 100; }); update();
        });
        sync.push(() => {
          const on = which.filter((x) => x.on).length;
          tick.checked = on > 0;
          tick.indeterminate = on > 0 && on < which.length;
          slider.value = Math.round(100 * Math.max(...which.map((x) => x.alpha)));
        });
        row.append(label, slider);
        return row;
      };
      const name = group[0].toUpperCase() + group.slice(1);
      const only = members.length === 1 ? members[0] : null;
      const head = line(only ? only.title : name, members, only ? only.colour : "");
      head.classList.add("head");
      block.append(head);
      if (!only) members.forEach((x) => block.append(line(x.title, [x], x.colour)));
      tree.append(block);
    }
    function update() { sync.forEach((f) => f()); repaint(); }

    document.querySelectorAll("[data-preset]").forEach((b) =>
      b.addEventListener("click", () => { preset(b.dataset.preset); repaint(); }));
    const clipKind = $("scene-clip"), clipAt = $("scene-clip-at"), clipFlip = $("scene-clip-flip");
    function clipChanged() {
      view.clip = clipKind.value;
      view.clipAt = clipAt.value / 1000;
      view.clipFlip = clipFlip.checked;
      clipAt.disabled = clipFlip.disabled = !view.clip;
      repaint();
    }
    [clipKind, clipAt, clipFlip].forEach((e) => e.addEventListener("input", clipChanged));
    $("scene-perspective").addEventListener("change", (e) => {
      view.perspective = e.target.checked; repaint();
    });
    $("scene-reset").addEventListener("click", () => { reset(); update(); });
    $("scene-all").addEventListener("click", () => { parts.forEach((x) => { x.on = true; }); update(); });
    $("scene-full").addEventListener("click", () => {
      if (document.fullscreenElement) document.exitFullscreen(); else $("scene").requestFullscreen();
    });
    function reset() {
      parts.forEach((x) => { x.on = x.visible; x.alpha = x.opacity; });
      Object.assign(view, {perspective: false});
      $("scene-perspective").checked = false;
      clipKind.value = ""; clipAt.value = 500; clipFlip.checked = false;
      clipChanged();
      choose(null);
      preset("front");
    }

    // One pointer turns (shift or the right button shifts), two pinch and shift.
    const pointers = new Map();
    let moved = 0;
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    canvas.addEventListener("pointerdown", (e) => {
      canvas.setPointerCapture(e.pointerId);
      canvas.focus({preventScroll: true});
      pointers.set(e.pointerId, [e.clientX, e.clientY]);
      moved = 0;
    });
    function shift(dx, dy) {
      const {right, up} = camera(), mm = 2 * view.scale / box.clientHeight;
      view.target = add(add(view.target, right, -dx * mm), up, dy * mm);
    }
    canvas.addEventListener("pointermove", (e) => {
      const before = pointers.get(e.pointerId);
      if (!before) return;
      const dx = e.clientX - before[0], dy = e.clientY - before[1];
      moved += Math.abs(dx) + Math.abs(dy);
      if (pointers.size === 2) {
        const other = [...pointers].find(([id]) => id !== e.pointerId)[1];
        const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
        const now = Math.hypot(e.clientX - other[0], e.clientY - other[1]);
        if (now > 1) zoom(was / now);
        shift(dx / 2, dy / 2);
      } else if (e.shiftKey || e.buttons & 2) {
        shift(dx, dy);
      } else {
        view.turn -= dx * 0.4;
        view.height = clamp(view.height + dy * 0.4, -90, 90);
      }
      pointers.set(e.pointerId, [e.clientX, e.clientY]);
      repaint();
    });
    canvas.addEventListener("pointerup", (e) => {
      pointers.delete(e.pointerId);
      if (moved > 4 || e.button !== 0) return;
      const r = canvas.getBoundingClientRect(), x = e.clientX - r.left, y = e.clientY - r.top;
      const tip = tips(matrices()).reverse().find((t) => Math.hypot(t.x - x, t.y - y) < 11);
      if (tip) { preset(tip.name); repaint(); } else choose(hit(x, y), e.shiftKey);
    });
    canvas.addEventListener("pointercancel", (e) => pointers.delete(e.pointerId));
    function zoom(factor) { view.scale = clamp(view.scale * factor, 2, 2000); repaint(); }
    // The wheel belongs to the page until the scene has been clicked.
    canvas.addEventListener("wheel", (e) => {
      if (document.activeElement !== canvas && !e.ctrlKey) return;
      e.preventDefault();
      zoom(Math.exp(clamp(e.deltaY, -240, 240) * 0.0015));
    }, {passive: false});
    canvas.addEventListener("dblclick", (e) => {
      const r = canvas.getBoundingClientRect();
      const found = hit(e.clientX - r.left, e.clientY - r.top);
      fit(found ? [found.part] : undefined);
      repaint();
    });
    canvas.addEventListener("keydown", (e) => {
      const step = 7.5;
      const act = {ArrowLeft: () => { view.turn += step; }, ArrowRight: () => { view.turn -= step; },
        ArrowUp: () => { view.height = clamp(view.height - step, -90, 90); },
        ArrowDown: () => { view.height = clamp(view.height + step, -90, 90); },
        "+": () => zoom(0.9), "-": () => zoom(1 / 0.9), Escape: () => choose(null)}[e.key];
      if (act) { e.preventDefault(); act(); repaint(); }
    });

    // #view=back&hide=bones&only=implant,screws&opacity=bones:0.3&clip=axial:0.5&pick=0.5,0.5
    // alone=1 leaves nothing but the banner and the scene.
    function obey() {
      const text = decodeURIComponent(location.hash.slice(1));
      if (!text.includes("=")) return;
      const want = Object.fromEntries(text.split("&").map((x) => x.split("=", 2)));
      const named = (list) => {
        const names = (list || "").split(",").filter(Boolean);
        return parts.filter((x) => names.includes(x.name) || names.includes(x.group));
      };
      reset();
      if (want.only) parts.forEach((x) => { x.on = named(want.only).includes(x); });
      named(want.show).forEach((x) => { x.on = true; });
      named(want.hide).forEach((x) => { x.on = false; });
      for (const pair of (want.opacity || "").split(",").filter(Boolean)) {
        const [name, value] = pair.split(":");
        named(name).forEach((x) => { x.alpha = clamp(Number(value) || 0, 0.05, 1); });
      }
      if (want.clip) {
        const [kind, at, flip] = want.clip.split(":");
        if (kind in CLIPS) {
          clipKind.value = kind;
          clipAt.value = 1000 * (at === undefined ? 0.5 : clamp(Number(at) || 0, 0, 1));
          clipFlip.checked = flip === "flip";
          clipChanged();
        }
      }
      view.perspective = want.perspective === "1";
      $("scene-perspective").checked = view.perspective;
      preset(want.view in PRESETS ? want.view : "front");
      if (want.focus && named(want.focus).length) fit(named(want.focus));
      update();
      if (want.pick) {
        const [x, y] = want.pick.split(",").map(Number);
        choose(hit(x * box.clientWidth, y * box.clientHeight), false);
      }
      root.classList.toggle("alone", want.alone === "1");
      if (want.alone !== "1") $("scene").scrollIntoView({block: "nearest"});
    }
    reset();
    root.classList.add("has-viewer");
    new ResizeObserver(repaint).observe(box);
    window.addEventListener("hashchange", obey);
    preset("front");
    update();
    obey();
    paint();
    root.dataset.viewer = "ready";
  }

  function refuse(reason) {
    root.dataset.viewer = "still";
    $("scene-refused").textContent =
      `This browser cannot show the 3D scene (${reason}); the still pictures below show the same parts.`;
    $("scene-refused").hidden = false;
  }

  // ------------------------------------------------------------------ large pictures
  const shade = $("enlarged");
  document.querySelectorAll("img.zoom").forEach((img) => img.addEventListener("click", () => {
    $("enlarged-picture").src = img.src;
    $("enlarged-words").textContent = img.alt;
    shade.showModal();
  }));
  shade.addEventListener("click", () => shade.close());

  const header = JSON.parse($("scene-header").textContent);
  if (typeof DecompressionStream === "undefined") {
    refuse("it is older than 2023");
  } else {
    // WebGL and driver errors of any kind end in the still pictures, with the reason in words.
    unpack(header).then((parts) => start(header, parts)).catch((e) => {
      root.classList.remove("has-viewer");
      refuse(e.message);
    });
  }
})();
