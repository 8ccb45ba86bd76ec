#include "liveavatar/version.h"

#include "liveavatar/liveavatar.h"

namespace liveavatar {

const char* version() { return LIVEAVATAR_VERSION_STRING; }

}  // namespace liveavatar
