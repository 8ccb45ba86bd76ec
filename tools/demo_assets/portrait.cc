// Draws the demo portrait: a cartoon face, 512x512, plain background. Usage: demo_portrait OUT.png
#include <cairo.h>

#include <cmath>
#include <cstdio>
#include <initializer_list>

namespace {

struct Colour {
  double r, g, b;
};

constexpr Colour kWall{0.78, 0.88, 0.91}, kHair{0.36, 0.21, 0.13}, kHairLight{0.47, 0.29, 0.18},
    kSkin{0.97, 0.80, 0.67}, kSkinShade{0.90, 0.68, 0.55}, kShirt{0.20, 0.47, 0.55}, kCollar{0.95, 0.95, 0.92},
    kInk{0.20, 0.13, 0.11}, kIris{0.29, 0.46, 0.33}, kLip{0.80, 0.36, 0.36}, kCheek{0.96, 0.62, 0.55};

void paint(cairo_t* c, Colour colour, double alpha = 1) {
  cairo_set_source_rgba(c, colour.r, colour.g, colour.b, alpha);
  cairo_fill(c);
}

void line(cairo_t* c, Colour colour, double width) {
  cairo_set_source_rgb(c, colour.r, colour.g, colour.b);
  cairo_set_line_width(c, width);
  cairo_set_line_cap(c, CAIRO_LINE_CAP_ROUND);
  cairo_stroke(c);
}

void ellipse(cairo_t* c, double x, double y, double half_width, double half_height) {
  cairo_save(c);
  cairo_translate(c, x, y);
  cairo_scale(c, half_width, half_height);
  cairo_new_sub_path(c);
  cairo_arc(c, 0, 0, 1, 0, 2 * M_PI);
  cairo_restore(c);
}

// The hair behind the head, down to the shoulders.
void draw_back_hair(cairo_t* c) {
  cairo_move_to(c, 256, 66);
  cairo_curve_to(c, 130, 62, 118, 200, 128, 290);
  cairo_curve_to(c, 132, 350, 140, 370, 160, 384);
  cairo_line_to(c, 352, 384);
  cairo_curve_to(c, 372, 370, 380, 350, 384, 290);
  cairo_curve_to(c, 394, 200, 382, 62, 256, 66);
  paint(c, kHair);
}

void draw_shoulders(cairo_t* c) {
  cairo_move_to(c, 40, 512);
  cairo_curve_to(c, 56, 420, 130, 402, 206, 388);
  cairo_line_to(c, 306, 388);
  cairo_curve_to(c, 382, 402, 456, 420, 472, 512);
  cairo_close_path(c);
  paint(c, kShirt);
  cairo_rectangle(c, 216, 320, 80, 70);  // neck
  paint(c, kSkin);
  ellipse(c, 256, 388, 40, 28);
  paint(c, kSkin);
  cairo_save(c);  // the chin's shadow stays on the neck
  cairo_rectangle(c, 216, 320, 80, 70);
  cairo_clip(c);
  ellipse(c, 256, 318, 66, 50);
  paint(c, kSkinShade, 0.8);
  cairo_restore(c);
  for (int side : {-1, 1}) {
    cairo_move_to(c, 256 + side * 40, 376);
    cairo_line_to(c, 256 + side * 66, 398);
    cairo_line_to(c, 256 + side * 28, 446);
    cairo_line_to(c, 256, 416);
    cairo_close_path(c);
    paint(c, kCollar);
  }
}

void draw_head(cairo_t* c) {
  for (int side : {-1, 1}) {
    ellipse(c, 256 + side * 101, 244, 16, 26);
    paint(c, kSkinShade);
  }
  cairo_move_to(c, 256, 112);
  cairo_curve_to(c, 340, 112, 362, 176, 357, 246);
  cairo_curve_to(c, 352, 310, 306, 356, 256, 356);
  cairo_curve_to(c, 206, 356, 160, 310, 155, 246);
  cairo_curve_to(c, 150, 176, 172, 112, 256, 112);
  paint(c, kSkin);
  for (int side : {-1, 1}) {
    ellipse(c, 256 + side * 62, 284, 22, 14);
    paint(c, kCheek, 0.45);
  }
}

void draw_eyes(cairo_t* c) {
  for (int side : {-1, 1}) {
    double x = 256 + side * 44;
    ellipse(c, x, 238, 21, 17);
    paint(c, {1, 1, 1});
    ellipse(c, x, 239, 12, 13);
    paint(c, kIris);
    ellipse(c, x, 239, 6, 6.5);
    paint(c, kInk);
    ellipse(c, x + 4, 234, 3.2, 3.2);
    paint(c, {1, 1, 1});
    cairo_move_to(c, x - 22, 236);
    cairo_curve_to(c, x - 14, 216, x + 14, 216, x + 22, 236);
    line(c, kInk, 4.5);
    cairo_move_to(c, x - side * 22, 203);
    cairo_curve_to(c, x - side * 6, 193, x + side * 12, 193, x + side * 26, 204);
    line(c, kHair, 7);
  }
}

void draw_nose_and_mouth(cairo_t* c) {
  cairo_move_to(c, 246, 280);
  cairo_curve_to(c, 252, 287, 260, 287, 266, 280);
  line(c, kSkinShade, 4.5);
  cairo_move_to(c, 224, 311);  // closed, smiling
  cairo_curve_to(c, 238, 306, 250, 306, 256, 309);
  cairo_curve_to(c, 262, 306, 274, 306, 288, 311);
  cairo_curve_to(c, 276, 331, 236, 331, 224, 311);
  paint(c, kLip);
  cairo_move_to(c, 222, 310);
  cairo_curve_to(c, 240, 319, 272, 319, 290, 310);
  line(c, {0.55, 0.21, 0.22}, 3.5);
}

void draw_fringe(cairo_t* c) {
  cairo_move_to(c, 148, 240);
  cairo_curve_to(c, 140, 130, 190, 84, 262, 84);
  cairo_curve_to(c, 340, 84, 374, 140, 364, 240);
  cairo_curve_to(c, 356, 200, 340, 176, 312, 160);
  cairo_curve_to(c, 262, 180, 200, 176, 176, 172);
  cairo_curve_to(c, 160, 190, 152, 212, 148, 240);
  paint(c, kHair);
  cairo_move_to(c, 196, 128);
  cairo_curve_to(c, 222, 104, 268, 100, 300, 112);
  line(c, kHairLight, 7);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: demo_portrait OUT.png\n");
    return 2;
  }
  cairo_surface_t* surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, 512, 512);
  cairo_t* c = cairo_create(surface);
  cairo_rectangle(c, 0, 0, 512, 512);
  paint(c, kWall);
  draw_back_hair(c);
  draw_shoulders(c);
  draw_head(c);
  draw_eyes(c);
  draw_nose_and_mouth(c);
  draw_fringe(c);
  cairo_status_t status = cairo_surface_write_to_png(surface, argv[1]);
  cairo_destroy(c);
  cairo_surface_destroy(surface);
  if (status != CAIRO_STATUS_SUCCESS) std::fprintf(stderr, "%s: %s\n", argv[1], cairo_status_to_string(status));
  return status == CAIRO_STATUS_SUCCESS ? 0 : 1;
}
